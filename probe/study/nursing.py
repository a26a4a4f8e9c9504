"""An intervention for one prompt: what a method needs of the prompt is filled in, what was said wins."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from probe.errors import BadInput
from probe.intervention import AttentionIntervention, Intervention
from probe.study.methods import build_intervention, interventions
from probe.study.plan import references
from probe.study.prompts import PromptRow
from probe.study.question import PLAIN, Method
from probe.study.reading import nearest
from probe.study.resolve import with_subjects

EXAMPLE = "a red car and a blue bowl"
FILLED = ("subjects", "attributes", "bindings", "groups")  # what a prompt can tell a method of itself


def all_methods() -> tuple[str, ...]:
    """Every intervention, those first that a prompt alone can set up."""
    alone = prompt_methods()
    return (*alone, *(name for name in interventions() if name not in alone))


def prompt_methods() -> tuple[str, ...]:
    """The methods that a prompt alone can set up: no boxes, no other prompt."""
    return tuple(name for name in interventions() if _fits(name))


def fields(method: str) -> tuple[str, ...]:
    """The settings of a method that a prompt fills in. Raises BadInput for an unknown method."""
    known = interventions()
    if method not in known:
        raise BadInput(f"there is no intervention {method!r}{nearest(method, sorted(known))}")
    return tuple(name for name in FILLED if name in known[method].model_fields)


def nurse_for(
    method: str, prompt: str, subjects: Sequence[str] | None = None, *, settings: Mapping[str, Any] | None = None
) -> Intervention:
    """The method, ready for a prompt: subjects and what describes them are those of its phrases unless given.

    Raises BadInput for an unknown method, for settings it does not take, and where it needs what no prompt says.
    """
    found = references(with_subjects(PromptRow(prompt=prompt)))
    if subjects is not None:
        found = references(with_attributes(prompt, subjects))
    filled = {name: found[name] for name in fields(method)} | dict(settings or {})
    built = build_intervention(Method(method=method, **filled), filled)
    if not isinstance(built, Intervention):
        raise BadInput(f"{method!r} nurses nothing; give another method than {PLAIN!r}")
    built.check()
    return built


def settings_of(text: str | None, name: str = "--set") -> dict[str, Any]:
    """ "a=1; b=[2, 3]" as data, each value as in YAML. Raises BadInput, which calls the text by its `name`."""
    try:
        return {setting: yaml.safe_load(value) for setting, value in pairs(text, name, "strength=0.5")}
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise BadInput(f"{name} {text!r}: {why}; write values as in YAML, such as 'thresholds={{0: 0.05}}'") from error


def pairs(text: str | None, name: str, example: str) -> list[tuple[str, str]]:
    """ "a=1; b=2" as pairs. Raises BadInput."""
    parts = [part.partition("=") for part in (text or "").split(";") if part.strip()]
    if any(not (setting.strip() and sign) for setting, sign, _ in parts):
        raise BadInput(f"{name} {text!r} is not a list of settings; write it like {example!r}")
    return [(setting.strip(), value.strip()) for setting, _, value in parts]


def with_attributes(prompt: str, subjects: Sequence[str]) -> PromptRow:
    """The prompt with these subjects, each with the attribute that its phrase has."""
    known = with_subjects(PromptRow(prompt=prompt))
    marks = dict(zip(known.subjects or (), known.attributes or (), strict=True))
    return PromptRow(prompt=prompt, subjects=tuple(subjects), attributes=tuple(marks.get(s) for s in subjects))


def _fits(method: str) -> bool:
    try:
        built = nurse_for(method, EXAMPLE)
    except BadInput:
        return False
    return not isinstance(built, AttentionIntervention) or built.source is None
