"""Which map is true? Every explainer against masks that are known, on the same pictures, with 95 % intervals.

Pictures: scenes of Menagerie's world, noised and encoded, with exact masks; and generated pictures, with the judge's.
Localisation: overlap (mIoU) at one fixed threshold for each method, chosen on the other half of the pictures; average
precision of pixels; pointing game; rank agreement with leave-one-out. Causality: words are taken from the prompt in the
order in which a map ranks them for a subject, and the change of its pixels is followed: generated pictures are drawn
again from the same seed, scenes noised again from the same seed and predicted from there. Sanity: shuffled weights,
another prompt, attention that sums to one, attributions that sum to what they must. What takes tens of passes a word is
measured on the first pictures alone. Rows are kept for each picture, so it goes on where it was stopped, and `--look`
tells what there is so far. `--again` measures methods that are new or were changed, and keeps the others' rows.
`--write` puts the results into the package and the table into docs/faithfulness.md; `--small` tries everything in
minutes. Run it from the root of the repository.
"""

import argparse
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from rich.console import Console
from rich.progress import track

import probe
from experiments import kept
from experiments.menagerie_card import HELD_OUT
from experiments.menagerie_pictures import GUIDANCE
from experiments.menagerie_prompts import pair_prompts, seen_pairs
from experiments.trials import (
    COSTLY,
    SIDE,
    TRUTH,
    Bench,
    Case,
    Explain,
    Known,
    Row,
    asked,
    caused,
    complete,
    localised,
    methods,
    role,
    sane,
)
from probe import show
from probe.errors import BadInput
from probe.explain import ranking
from probe.generator import card, weights
from probe.generator.world import Mention, Scene
from probe.words import read_prompt

EVERYTHING = 10**6  # pairs
SMALL = {"pictures": 2, "costly": 2, "steps": 4, "looks": 2, "causal": 1, "sane": 1}
WORST = 4  # cases a method that are shown
MEASURES = (ranking.OVERLAP, "precision", "pointing")
PAGE, FIGURE = Path("docs/faithfulness.md"), Path("docs/images/faithfulness.png")


def scene(bench: Bench, number: int) -> Case:
    """A rendered scene and its caption, noised to a few levels; every word that is about a thing."""
    shown = HELD_OUT.scene(number)
    caption = HELD_OUT.caption(shown)
    options = {"steps": bench.looks, "seed": number, "guidance_scale": GUIDANCE}
    options |= asked(comparable(caption.text, bench), bench.looks, bench.looks)
    trace = probe.record_image(bench.pipe, shown.picture, caption.text, **options)
    labels = {word.start: word.label for word in trace.words}
    about = [m for m in caption.mentions if m.role in ("kind", "colour") and m.things and m.start in labels]
    known = {labels[m.start]: Known(role_of(m.role), kind(shown, m), caption.mask(m, shown)) for m in about}
    return Case(number, "scene", trace, {label: each for label, each in known.items() if each.mask.any()})


def comparable(prompt: str, bench: Bench) -> dict[str, Explain]:
    """The methods that a prompt allows: concepts are set against one another, so a word alone has none."""
    said = [word for word in read_prompt(prompt, {"clip": bench.pipe.tokenizer}).words if word.content]
    return {name: each for name, each in bench.methods.items() if len(said) > 1 or name != "concept_attention"}


def role_of(mention: str) -> str:
    """The role of a caption's word as `trials.role` calls it."""
    return "noun" if mention == "kind" else mention


def kind(shown: Scene, mention: Mention) -> str:
    """The class that a word is about, whatever synonym it is: a kind, or a colour."""
    thing = shown.things[mention.things[0]]
    return thing.kind if mention.role == "kind" else str(thing.colour)


def generated(bench: Bench, number: int) -> Case:
    """A picture of two subjects; of its words, those that the judge sees."""
    trace = bench.record(prompts()[number % len(prompts())], number)
    verdict = bench.judge.read(trace.pictures[0])
    once = [word for word in trace.words if word.content and "#" not in word.label]
    known = {word.label: Known(role(word.text), word.text, verdict.mask(word.text)) for word in once}
    return Case(number, "generated", trace, {label: each for label, each in known.items() if each.mask.any()})


@cache
def prompts() -> tuple[str, ...]:
    """Prompts of two subjects that are often together in the training data, always the same."""
    return tuple(pair_prompts(seen_pairs(EVERYTHING)))


SOURCES: dict[str, Callable[[Bench, int], Case]] = {"scene": scene, "generated": generated}


# Rows on disk


def measure(bench: Bench, given: argparse.Namespace) -> pd.DataFrame:
    """The rows of all pictures; those that are on disk are read, the others are measured and written."""
    parts = given.out / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    agree(given.out / "settings.json", settings(bench, given), given.again)
    bench = only(bench, given.again)
    jobs = list(itertools.product(range(given.pictures), SOURCES))
    for number, source in track(jobs, "pictures", console=Console(stderr=True), transient=True):
        path = parts / f"{source}-{number:05d}.parquet"
        if given.again and not path.exists():
            raise BadInput(f"{path} is not there, so there are no rows to keep; measure it without --again first")
        if given.again or not path.exists():
            one = bench if number < given.costly else without_costly(bench)
            case = SOURCES[source](one, number)
            case.trace.pictures[0].save(parts / f"{path.stem}.png")
            new = pd.DataFrame([asdict(row) for row in rows(case, one, given)], columns=list(Row.__annotations__))
            write(path, renewed(pd.read_parquet(path), new, given.again) if given.again else new)
    return gathered(given)


def renewed(old: pd.DataFrame, new: pd.DataFrame, again: Sequence[str]) -> pd.DataFrame:
    """Old rows, with the new ones in place of those of these methods."""
    parts = [old.loc[~old["method"].isin(list(again))], new.loc[new["method"].isin(list(again))]]
    return pd.concat(parts, ignore_index=True)


def only(bench: Bench, again: Sequence[str]) -> Bench:
    """With these methods alone, and leaving words out, with which all are compared."""
    chosen = {*again, TRUTH} if again else set(bench.methods)
    return replace(bench, methods={name: each for name, each in bench.methods.items() if name in chosen})


def gathered(given: argparse.Namespace) -> pd.DataFrame:
    """The rows that are on disk, of the pictures that are asked for. Raises BadInput where there are none."""
    jobs = itertools.product(range(given.pictures), SOURCES)
    paths = [given.out / "parts" / f"{source}-{number:05d}.parquet" for number, source in jobs]
    found = [part for part in map(pd.read_parquet, filter(Path.exists, paths)) if len(part)]
    if not found:
        raise BadInput(f"{given.out} holds no rows yet; measure some, or name another folder with --out")
    return pd.concat(found, ignore_index=True)


def without_costly(bench: Bench) -> Bench:
    """Without the methods that take tens of passes a word."""
    return replace(bench, methods={name: each for name, each in bench.methods.items() if name not in COSTLY})


def rows(case: Case, bench: Bench, given: argparse.Namespace) -> Iterator[Row]:
    """All that one picture says; the costly parts only for the first pictures."""
    yield from localised(case, bench)
    yield from complete(case)
    if case.number < given.causal:
        yield from caused(case, bench)
    if case.source == "generated" and case.number < given.sane:
        yield from sane(case, bench, prompts()[(case.number + 1) % len(prompts())])


def settings(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """What decides the numbers."""
    unet = weights.digest(weights.MENAGERIE / "unet" / "diffusion_pytorch_model.safetensors")
    shared = {
        "steps": given.steps,
        "looks": given.looks,
        "costly": given.costly,
        "causal": given.causal,
        "sane": given.sane,
        "methods": list(bench.methods),
    }
    return {"weights": given.source or unet[:16], **shared}


def agree(path: Path, wanted: dict[str, Any], again: Sequence[str] = ()) -> None:
    """Keep the settings beside the rows. Raises BadInput where there are rows of others, but for methods `again`."""
    held = json.loads(path.read_text()) if path.exists() else wanted
    if _but(held, again) != _but(wanted, again):
        raise BadInput(f"{path.parent} holds rows of {held}, not of {wanted}; give another folder with --out")
    path.write_text(json.dumps(wanted, indent=1))


def _but(settings: dict[str, Any], again: Sequence[str]) -> dict[str, Any]:
    return settings | {"methods": [name for name in settings.get("methods", ()) if name not in again]}


def write(path: Path, table: pd.DataFrame) -> None:
    """The file appears whole or not at all."""
    part = path.with_suffix(".part")
    table.to_parquet(part, index=False)
    os.replace(part, path)


# What comes out


def publish(found: pd.DataFrame, out: Path, home: Path) -> pd.DataFrame:
    """The table, its figure, and for each method the cases where it fails worst, into a folder."""
    home.mkdir(parents=True, exist_ok=True)
    table = ranking.summary(found)
    table.to_csv(home / "table.csv", index=False)
    show.ranking_figure(table, MEASURES).savefig(home / "ranking.png")
    for name, part in found.query("measure == 'overlap'").groupby("method"):
        scored = part.assign(value=part["curve"].map(max)).sort_values(by="value")
        show.failures([case(row, out) for row in scored.head(WORST).itertuples()]).savefig(
            ranking.examples(str(name), home)
        )
    return table


def case(row: Any, out: Path) -> tuple[str, Image.Image, np.ndarray, np.ndarray]:
    """What `show.failures` takes of a row: even at its best threshold, the map overlaps the mask so little."""
    picture = Image.open(out / "parts" / f"{row.source}-{row.picture:05d}.png")
    mask = np.unpackbits(np.frombuffer(row.mask, np.uint8)).reshape(picture.height, picture.width)
    return (
        f"{row.word}: {row.value:.2f}",
        picture,
        mask.astype(bool),
        np.frombuffer(row.map, np.uint8).reshape(SIDE, SIDE),
    )


def silent(found: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Which methods gave no map at all on a source: a gap that a table of means would hide."""
    told = found.query("measure == 'overlap'")
    heard = set(zip(told["source"], told["method"], strict=True))
    return [
        f"{name} gave no map of any {source} word"
        for source in SOURCES
        for name in names
        if (source, name) not in heard
    ]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pictures", type=int, default=200, help="of each source: rendered scenes, and generated pictures")
    add("--costly", type=int, default=12, help=f"of each source, for {', '.join(COSTLY)}: tens of passes a word")
    add("--steps", type=int, default=20, help="denoising steps of generated pictures")
    add("--looks", type=int, default=4, help="steps at which inquiries are made, half for costly ones; scenes' levels")
    add("--causal", type=int, default=8, help="of each source, whose words are taken away")
    add("--sane", type=int, default=5, help="generated pictures that are tried with shuffled weights")
    add("--methods", nargs="+", choices=list(methods()), help="only these")
    add("--again", nargs="+", choices=list(methods()), default=[], help="measure these anew, and keep other rows")
    add("--source", help="another pipeline than Menagerie: a folder")
    add("--out", type=Path, default=Path("out/which_map_is_true"), help="where the rows are kept")
    add("--look", action="store_true", help="only print and draw what is measured so far")
    add("--small", action="store_true", help="a few pictures of few steps, to see that all of it runs")
    add("--write", action="store_true", help=f"put the results into the package and the table into {PAGE}")
    given = parser.parse_args(argv)
    kept.refuse_rehearsal(given)
    vars(given).update(SMALL if given.small else {})
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.look:
        print(ranking.markdown(publish(gathered(given), given.out, given.out / "so far")))
        return
    bench = Bench(probe.load(given.source), weights.judge(), given.steps, given.looks, methods(given.methods))
    found = measure(bench, given)
    table = publish(found, given.out, given.out)
    print(ranking.markdown(table))
    for gap in silent(found, list(bench.methods)):
        print(f"beware: {gap}")
    if given.write:
        publish(found, given.out, ranking.HOME)
        PAGE.write_text(card.insert(PAGE.read_text(), ranking.markdown(table)))
        FIGURE.write_bytes((given.out / "ranking.png").read_bytes())


if __name__ == "__main__":
    main()
