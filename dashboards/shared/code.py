"""Python that makes again what a page shows. Everything foreign in it is a quoted literal."""

from collections.abc import Sequence

from dashboards.shared import traces
from dashboards.shared.compared import Pair
from dashboards.shared.opened import Opened, View


def maps_code(held: Opened, view: View, words: Sequence[str]) -> str:
    """The overlays and their maps."""
    return _lines(
        *_opening(held, "from probe.readings import Choice, word_maps"),
        f"words = {list(words)!r}",
        f"choice = {_choice(view, view.step)}",
        f"probe.show.overlays(trace, words, shared_scale={view.shared}, choice=choice).savefig('maps.svg')",
        "word_maps(trace, words, choice).rename('share').to_dataframe().to_csv('maps.csv')",
    )


def methods_code(held: Opened, image: int, words: Sequence[str]) -> str:
    """Every method that the trace was recorded for, side by side, and the maps."""
    return _lines(
        *_opening(held, "from probe.explain import held"),
        f"words = {list(words)!r}",
        f"found = [each for word in words for each in held(trace, word, image={image}).values()]",
        f"probe.show.side_by_side(trace, found, image={image}).savefig('methods.svg')",
        "for each in found:",
        "    each.values.rename('value').to_dataframe().to_csv(f'{each.method}-{each.subject}.csv')",
    )


def table_code(held: Opened, name: str, image: int) -> str:
    """One table, its figure and its numbers."""
    return _lines(
        *_opening(held, "from probe.explain.tables import table"),
        f"about = table({name!r})",
        f"found = about.read(trace, {image})",
        f"probe.show.table_figure(found, about.title).savefig('{name}.svg')",
        f"found.rename('value').to_dataframe().to_csv('{name}.csv')",
    )


def region_code(held: Opened, method: str, box: tuple[float, ...], image: int) -> str:
    """The words of a region."""
    return _lines(
        *_opening(held),
        f"words = probe.words_of_region(trace, {box!r}, method={method!r}, image={image})",
        "words.to_csv('region.csv')",
    )


def steps_code(held: Opened, view: View, words: Sequence[str], word: str) -> str:
    """The strip of one word and the curves of all."""
    return _lines(
        *_opening(held, "from probe.readings import Choice"),
        f"choice = {_choice(view, None)}",
        f"probe.show.strip(trace, {word!r}, choice=choice).savefig('strip.svg')",
        f"probe.show.word_curves(trace, {list(words)!r}, choice=choice).savefig('curves.svg')",
    )


def guidance_code(held: Opened, view: View) -> str:
    """The guidance curve and its numbers."""
    return _lines(
        *_opening(held),
        f"probe.show.guidance_curve(trace, image={view.image}).savefig('guidance.svg')",
        f"trace.node('guidance').sel(image={view.image}).drop_dims(['y', 'x']).to_dataframe().to_csv('guidance.csv')",
    )


def numbers_code(held: Opened, view: View, words: Sequence[str]) -> str:
    """The heatmap of each word, and its mean, largest value and peak."""
    given = {"sites": view.layers.code, "steps": view.step, "image": view.image or None}
    options = "".join(f", {name}={value}" for name, value in given.items() if value is not None)
    return _lines(
        *_opening(held),
        f"for word in {list(words)!r}:",
        f"    heatmap = probe.attention(trace, word{options})",
        "    print(word, float(heatmap.values.mean()), float(heatmap.values.max()), heatmap.peak)",
    )


def compare_code(pair: Pair, word: str | None, step: int | None) -> str:
    """A comparison of two traces: its numbers, and the figure of a word, or the curves."""
    words = "" if pair.words is None else f", words={dict([pair.words])!r}"
    figure = f"comparison(found, {[word]!r}, step={step})" if word is not None else "comparison_curves(found)"
    return _lines(
        *_opening(pair.first),
        f"other = probe.open({str(traces.find(pair.second.name))!r})",
        f"found = probe.compare(trace, other{words})",
        "found.table().to_csv('comparison.csv', index=False)",
        f"probe.show.{figure}.savefig('comparison.svg')",
    )


def run_code(held: Opened) -> str:
    """The run itself: the same picture, recorded once more."""
    run = held.trace.run
    given = [repr(run.prompts[0] if len(run.prompts) == 1 else list(run.prompts)), f"num_inference_steps={run.steps}"]
    if any(run.negative_prompts):
        given.append(f"negative_prompt={run.negative_prompts[0]!r}")
    if run.guidance_scale is not None:
        given.append(f"guidance_scale={run.guidance_scale!r}")
    if run.seed is not None:
        given.append(f"generator=torch.Generator('cpu').manual_seed({run.seed})")
    return _lines(
        "import probe",
        "import torch",
        "",
        f"pipe = probe.load({'' if run.model.casefold() == 'menagerie' else repr(run.model)})",
        f"with probe.record(pipe, words={list(held.trace.labels)!r}) as recording:",
        "    pipe(",
        *(f"        {each}," for each in given),
        "    )",
        "trace = recording.trace",
    )


def _opening(held: Opened, *more: str) -> tuple[str, ...]:
    return ("import probe", *more, "", f"trace = probe.open({str(traces.find(held.name))!r})")


def _choice(view: View, step: int | None) -> str:
    given = {"sites": view.layers.code, "steps": step, "image": view.image or None}
    return f"Choice({', '.join(f'{name}={value}' for name, value in given.items() if value is not None)})"


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
