"""The scheduler that a study names: looked for before any work, given to the pipeline once that is loaded."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from probe.errors import BadInput
from probe.generator.names import NAMES
from probe.study.plan import identity
from probe.study.question import Model, Study
from probe.study.reading import read_data

INDEX = "model_index.json"


def check_scheduler(study: Study) -> None:
    """Raises BadInput for a scheduler that a model of a resolved study cannot take, as far as its index tells.

    A model is asked for its own scheduler only; any other has to be one that could stand in Menagerie's place, as all
    of diffusers' schedulers for pictures that can be exchanged are alike in that.
    """
    if study.scheduler is None:
        return
    usual = [kind.__name__ for kind in import_module("probe.generator.parts").scheduler().compatibles]
    for model in study.models:
        own = own_scheduler(model)
        if own is not None:
            _check(study.scheduler, {own, *usual}, repr(model.name))


def scheduled(pipe: Any, name: str | None) -> Any:
    """The pipeline with the scheduler of that name; None: with its own. Raises BadInput, listing those that fit."""
    if name is not None:
        kinds = {kind.__name__: kind for kind in (type(pipe.scheduler), *pipe.scheduler.compatibles)}
        _check(name, kinds, "this model")
        pipe.scheduler = kinds[name].from_config(pipe.scheduler.config)
    return pipe


def _check(name: str, known: Iterable[str], model: str) -> None:
    if name not in known:
        raise BadInput(f"there is no scheduler {name!r} for {model}; take {', '.join(sorted(known))}")


def own_scheduler(model: Model) -> str | None:
    """The class of a model's own scheduler; None where that cannot be told without loading or fetching it."""
    index = _index(model)
    part = read_data(index).get("scheduler") if index is not None else None
    return part[1] if isinstance(part, list) else None


def _index(model: Model) -> Path | None:
    """What lists a model's parts, if it lies on this machine."""
    if model.source in NAMES:
        return import_module("probe.generator.weights").MENAGERIE / INDEX
    if Path(model.source).is_dir():
        index = Path(model.source) / INDEX
        return index if index.is_file() else None
    cached = try_to_load_from_cache(model.source, INDEX, revision=identity(model).partition("@")[2])
    return Path(cached) if isinstance(cached, str) else None
