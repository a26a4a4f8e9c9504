"""What a study can name: interventions from `probe.nurse`, explainers from `probe.explain`, scorers from here.

Nothing is listed here by hand: the rooms say themselves what they hold.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from probe.errors import BadInput
from probe.explain import METHODS
from probe.explain.methods import by, needs
from probe.heatmap import Heatmap
from probe.intervention import PromptIntervention
from probe.study.question import PLAIN, Method
from probe.study.reading import explain, nearest
from probe.study.recorded import opened

GIVEN = ("trace", "word", "image")  # what a job gives to an explainer
NAMED = "package.module:Class"  # what may stand for a class of one's own
GROUP = "probe.scorers"  # entry points of packages that bring scorers


def interventions() -> dict[str, type[BaseModel]]:
    """Every intervention that `probe.nurse` exports, by class name."""
    nurse = import_module("probe.nurse")
    exported = {name: getattr(nurse, name) for name in nurse.__all__}
    return {name: kind for name, kind in exported.items() if isinstance(kind, type) and issubclass(kind, _bases())}


def explainers() -> dict[str, Callable[..., Heatmap]]:
    """Every explainer, by its name."""
    return {method.name: method.explain for method in METHODS}


def scorers() -> dict[str, type[BaseModel]]:
    """The built-in scorers, and those of installed packages (entry points of the group "probe.scorers")."""
    home = import_module("probe.study.scorers")
    found = {kind.__name__.casefold(): kind for kind in home.BUILT_IN}
    return {point.name: _scorer(point.load(), point.value) for point in entry_points(group=GROUP)} | found


def build_intervention(method: Method, settings: Mapping[str, Any]) -> BaseModel | None:
    """The intervention with these settings, of `probe.nurse` or "package.module:Class"; None for the plain run.

    A recorded run may be named by its folder. Raises BadInput, DamagedFile.
    """
    settings = opened(settings)
    if method.method == PLAIN:
        if settings:
            raise BadInput(f"{PLAIN!r} is not an intervention, so it takes no settings; found {', '.join(settings)}")
        return None
    if ":" in method.method:
        return _build(_intervention(brought(method.method, "intervention"), method.method), method, settings)
    return _build(_find(method.method, interventions(), "intervention", PLAIN, NAMED), method, settings)


def build_scorer(method: Method) -> Any:
    """The scorer that a method names: a built-in one, an installed one, or "package.module:Class". Raises BadInput."""
    if ":" in method.method:
        return _build(_scorer(brought(method.method, "scorer"), method.method), method, method.settings)
    return _build(_find(method.method, scorers(), "scorer", NAMED), method, method.settings)


def find_explainer(method: Method) -> Callable[..., Heatmap]:
    """The explainer that a method names. Raises BadInput, also for settings that it does not take."""
    function = _find(method.method, explainers(), "explainer")
    known = [name for name in inspect.signature(function).parameters if name not in GIVEN]
    unknown = [name for name in method.settings if name not in known]
    if unknown:
        raise BadInput(f"the explainer {method.name!r} has no setting {unknown[0]!r}{nearest(unknown[0], known)}")
    return function


def rewords(method: Method) -> bool:
    """Whether the model reads other text states than the prompt's, so that nothing of them is a word of the prompt."""
    built = build_intervention(method, method.settings)
    return isinstance(built, PromptIntervention) and not built.by_predictions


def sayable(explainers: Sequence[Method], method: Method) -> tuple[Method, ...]:
    """The explainers that have a say under a method: where it rewords, none that looks for the prompt's words anew."""
    return tuple(each for each in explainers if not (by(each.method).record and rewords(method)))


def asked(explainers: Sequence[Method]) -> dict[str, Any]:
    """What `probe.record` has to be asked for, so that these explainers can read it."""
    inquiries, relations = needs([each.method for each in explainers])
    return {"explain": [getattr(import_module("probe"), name)() for name in inquiries], "relations": relations}


def brought(name: str, what: str) -> Any:
    """What "package.module:Name" names. Raises BadInput."""
    module, _, kind = name.partition(":")
    try:
        return getattr(import_module(module), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"the {what} {name!r} cannot be found ({error}); install its package, or name its folder in PYTHONPATH"
        ) from error


def _build(kind: type[BaseModel], method: Method, settings: Mapping[str, Any]) -> BaseModel:
    try:
        return kind(**settings)
    except ValidationError as error:
        raise explain(error, f"the settings of {method.name!r}", kind.model_fields) from error


def _find(name: str, known: Mapping[str, Any], what: str, *others: str) -> Any:
    if name not in known:
        raise BadInput(f"there is no {what} {name!r}{nearest(name, [*sorted(known), *others])}")
    return known[name]


def _intervention(found: Any, name: str) -> type[BaseModel]:
    if not isinstance(found, type) or not issubclass(found, _bases()):
        raise BadInput(
            f"{name!r} is not an intervention; it has to be a class that inherits from one of probe.intervention"
        )
    return found


def _bases() -> tuple[type[BaseModel], ...]:
    """What every intervention inherits from."""
    data = import_module("probe.intervention")
    return tuple(kind for kind in _classes(data) if issubclass(kind, BaseModel) and kind.__module__ == data.__name__)


def _scorer(found: Any, name: str) -> type[BaseModel]:
    base = import_module("probe.study.scorers").Scorer
    if not isinstance(found, type) or not issubclass(found, base):
        raise BadInput(f"{name!r} is not a scorer; it has to be a class that inherits from probe.study.Scorer")
    return found


def _classes(module: Any) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type)]
