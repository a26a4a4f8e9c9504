"""A study with nothing left open: every prompt, subject, setting and digest of weights written out.

This is the impure half of planning: it reads files, hashes weights and asks the methods for their defaults.
"""

import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from pydantic import BaseModel

from probe.errors import BadInput
from probe.generator.names import NAMES, own_guidance
from probe.intervention import Intervention
from probe.study.laid import prefixes
from probe.study.methods import build_intervention, build_scorer, find_explainer
from probe.study.own import Own
from probe.study.plan import check_apart, references, refers, settle
from probe.study.prompts import PromptRow
from probe.study.question import RECORDED, Method, Model, Study
from probe.study.recorded import named
from probe.study.rows import COLUMNS
from probe.study.scheduler import check_scheduler, own_scheduler
from probe.subjects import find_subjects

COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(study: Study) -> Study:
    """The same study, resolved; everything in it that cannot be used is found here. Raises BadInput, BadModel."""
    explainers = [_explainer(method) for method in study.explainers]
    built = [build_scorer(method) for method in study.scorers]
    scorers = [_explicit(method, scorer) for method, scorer in zip(study.scorers, built, strict=True)]
    rows = study.rows
    if explainers or scorers or any(refers(method.settings) for method in study.interventions):
        rows = tuple(map(with_subjects, rows))
    _check_columns(rows, prefixes(study))
    interventions = [_intervention(method, rows) for method in study.interventions]
    judged = any(scorer.menagerie for scorer in built)
    models = [_owning(_judged(_identified(model), judged=judged)) for model in study.models]
    found = {
        "prompts": rows,
        "models": tuple(map(_guided, models) if None in study.guidance else models),
        "interventions": tuple(interventions),
        "explainers": tuple(explainers),
        "scorers": tuple(scorers),
        "columns": tuple(sorted({name for scorer in built for name in scorer.reads})),
    }
    resolved = study.model_copy(update=found)
    check_scheduler(resolved)
    check_apart(resolved)
    return resolved


def with_subjects(row: PromptRow) -> PromptRow:
    """The row with its subjects, and the word right before each that describes it; what the row says wins."""
    if row.subjects is not None:
        return row if row.attributes is not None else _with(row, row.subjects, [None] * len(row.subjects))
    subjects = find_subjects(row.prompt)
    attributes = [subject.attributes[-1].text if subject.attributes else None for subject in subjects]
    return _with(row, tuple(subject.label for subject in subjects), attributes)


def _with(row: PromptRow, subjects: tuple[str, ...], attributes: list[str | None]) -> PromptRow:
    return row.model_copy(update={"subjects": subjects, "attributes": tuple(attributes)})


def _check_columns(rows: Iterable[PromptRow], heads: tuple[str, ...]) -> None:
    names = {name for row in rows for name in row.columns}
    taken = names & set(COLUMNS)
    if taken:
        raise BadInput(f"the prompts have the columns {sorted(taken)}, which the table needs itself: rename them")
    alike = sorted(name for name in names if name.startswith(heads))
    if alike:
        raise BadInput(
            f"the prompts have the columns {alike}, which begin as those of the study's scorers and explainers do "
            f"({', '.join(heads)}): rename them, or give that scorer a label"
        )


def _intervention(method: Method, rows: Sequence[PromptRow]) -> Method:
    """Built once for every prompt that it refers to, so that a bad setting is found before any work; with defaults."""
    method = Method(method=method.method, label=method.label, **named(method.settings))
    built = [_checked(method, row) for row in (rows if refers(method.settings) else rows[:1])]
    return method if built[0] is None else _explicit(method, built[0])


def _checked(method: Method, row: PromptRow) -> BaseModel | None:
    """The intervention for a prompt. Raises BadInput, with the prompt if the settings are taken from it."""
    built = build_intervention(method, settle(method.settings, references(row), row))
    try:
        if isinstance(built, Intervention):
            built.check()
    except BadInput as error:
        place = f" for the prompt {row.prompt!r}" if refers(method.settings) else ""
        raise BadInput(f"the settings of {method.name!r} cannot be used{place}: {error}") from error
    return built


def _explicit(method: Method, built: Any) -> Method:
    """The method with all settings written out; what stands for something else stays as it was given."""
    open_ones = {name: value for name, value in method.settings.items() if refers(value) or name == RECORDED}
    return Method(method=method.method, label=method.label, **built.model_dump(mode="json") | open_ones)


def _explainer(method: Method) -> Method:
    parameters = inspect.signature(find_explainer(method)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "image"}
    return Method(method=method.method, label=method.label, **defaults | method.settings)


def _identified(model: Model) -> Model:
    """The model with the digest of its weights. Raises BadInput when it is another than was written down."""
    found = _digest(model)
    _check_same(f"the weights of {model.source!r} are", found, model.digest, "digest")
    return model.model_copy(update={"digest": found})


def _judged(model: Model, *, judged: bool) -> Model:
    """The model with the weights that judge it; Menagerie's own digest says that already. Raises BadInput as above."""
    if not judged or model.source in NAMES:
        return model.model_copy(update={"judge": None})
    found = import_module("probe.generator.weights").revision()
    _check_same(f"Menagerie's weights, which score the pictures of {model.source!r}, are", found, model.judge, "judge")
    return model.model_copy(update={"judge": found})


def _owning(model: Model) -> Model:
    """The model with what it takes where the study names nothing: of a folder its scheduler, of Menagerie all.

    Of a hub model nothing, as its keys would be others once it lies on this machine.
    """
    here = model.source in NAMES or Path(model.source).is_dir()
    known: dict[str, Any] = {"scheduler": own_scheduler(model)} if here else {}
    if model.source in NAMES:
        drawing = import_module("probe.generator.weights").StableDiffusionPipeline.__call__
        side = import_module("probe.generator.parts").PICTURE_SIDE
        steps = inspect.signature(drawing).parameters["num_inference_steps"].default
        known |= {"steps": steps, "size": (side, side), "negative": ""}
    return model.model_copy(update={"own": Own(**known)})


def _check_same(what: str, found: str, said: str | None, name: str) -> None:
    if said not in (None, found):
        raise BadInput(
            f"{what} {found}, the study says {said}: restore them, or take the {name} out to begin with the new weights"
        )


def _guided(model: Model) -> Model:
    """The model with the guidance that goes with its weights, where it has one and no other was given."""
    return model if model.guidance is not None else model.model_copy(update={"guidance": own_guidance(model.source)})


def _digest(model: Model) -> str:
    weights = import_module("probe.generator.weights")
    if model.source in weights.NAMES:
        return f"{model.source}:{weights.revision(control=model.source == weights.NAMES[1])}"
    folder = Path(model.source)
    if folder.is_dir():
        return "blake2b:" + folder_digest(folder)
    if not weights.HUB_ID.fullmatch(model.source):
        raise BadInput(f"there is no folder {model.source!r}, and this is not a hub id (owner/name); check `models`")
    return f"{model.source}@{_commit(model)}"


def _commit(model: Model) -> str:
    """The commit of a hub model: as pinned, or as it lies in the cache of this machine; nothing is fetched."""
    if model.revision and COMMIT.fullmatch(model.revision):
        return model.revision
    cached = try_to_load_from_cache(model.source, "model_index.json", revision=model.revision)
    if not isinstance(cached, str):
        raise BadInput(
            f"{model.source!r} is not on this machine, so its weights are not known; pin them: "
            f"{{source: {model.source}, revision: COMMIT}} with the 40 digits of the commit"
        )
    return Path(cached).parent.name


def folder_digest(folder: Path) -> str:
    """32 hexadecimal digits for what a folder of weights holds: names and contents of all files but hidden ones."""
    total = hashlib.blake2b(digest_size=16)
    for path in _visible(folder):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _visible(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path
