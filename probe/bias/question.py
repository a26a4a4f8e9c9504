"""A bias study is a Study: templates x groups x seeds x models, each picture read by a named classifier."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from probe.bias import inside
from probe.bias.classifiers import PERCEIVED, Classifier, MenagerieJudge, as_classifier
from probe.bias.groups import TEMPLATE, Group, as_groups, fill
from probe.bias.shares import needed
from probe.bias.tables import Reference
from probe.bias.training_shares import planted
from probe.concepts.concept import Concept
from probe.errors import BadInput
from probe.generator.names import NAMES
from probe.study.methods import build_scorer
from probe.study.question import PLAIN, Method, Study, several

QUESTION = "Which attributes are people of each group drawn with, as a classifier perceives them?"
SCHEDULE, STEER = "PromptSchedule", "probe.concepts.steer:Steer"
UNSTEERED = "arm"  # the column of the prompt as it is
Arm = str | Concept | tuple[str | Concept, float]  # what is read, and how far towards it, 1 as in its place
REFERENCE = "reference"  # columns of the prompts' rows: reference_gender_man


def study(
    groups: Iterable[Any],
    template: str | Sequence[str] = TEMPLATE,
    *,
    classifier: Classifier | None = None,
    arms: Mapping[str, Arm] | None = None,
    within: float | None = None,
    **fields: Any,
) -> Study:
    """Templates filled with each group, as a Study; `fields` are any other fields of it (seeds, models, guidance, ...).

    `groups`: names, `Group`s, or `read_groups(path)`. `classifier`: left out, Menagerie's judge, for Menagerie only.
    `arms`: other templates by name, read by the model in place of the prompt, from the same noise; as (template, 0.5)
    the text states go half of the way from the prompt's to the template's, as (template, -0.5) as far away from it.
    A `Concept` may stand for a template; it is said in its own one, and so takes the place of one prompt only.
    `within`: how far a share's interval may reach to either side. A study that records (`explainers="attention"`, or
    traces kept) also reads what goes on inside; with "relevancy" among the explainers, what rests on each word, by
    gradients of every fifth step. Raises BadInput, also for too few pictures for `within`.
    """
    templates = (template,) if isinstance(template, str) else tuple(template)
    given = {"name": "bias", "question": QUESTION, **_methods(arms or {}, fields)}
    scorers = [_named(classifier).method, *_inside(given), *several(given.pop("scorers", ()))]
    rows = [_row(each, group, arms or {}) for each in templates for group in as_groups(groups)]
    _check_concepts(arms or {}, rows)
    made = Study(prompts=rows, scorers=scorers, **given)
    foreign = [model.name for model in made.models if model.source not in NAMES]
    if classifier is None and foreign:
        raise BadInput(f"Menagerie's judge knows no pictures of {foreign[0]!r}; name another with `classifier`")
    _check_pulled(made)
    if within is not None:
        check_enough(len(made.seeds) * len(templates), within)
    return made


def _check_pulled(made: Study) -> None:
    """Raise BadInput for relevancy, which is of what guidance adds, where there is none."""
    off = [scale for scale in made.guidance if scale is not None and scale <= 1]
    if off and any(each.method == inside.RELEVANCY for each in made.explainers):
        raise BadInput(
            f"relevancy is of what guidance adds to a step, and at guidance {off[0]:g} there is none; "
            "take scales above 1, or leave relevancy out"
        )


def check_enough(pictures: int, within: float, *, confidence: float = 0.95) -> None:
    """Raise BadInput when an interval from so many pictures may reach further than `within` to either side."""
    least = needed(within, confidence=confidence)
    if pictures < least:
        raise BadInput(
            f"{pictures} pictures of a group are too few for an interval of +- {within} ({confidence:.0%} sure): "
            f"take {least} at least, which is more seeds, or ask for a wider one"
        )


def classifier_of(made: Study) -> Classifier:
    """The classifier that a study's pictures are read by. Raises BadInput."""
    found = next((method for method in made.scorers if method.name == PERCEIVED), None)
    if found is None:
        raise BadInput(
            f"{made.name!r} has no scorer called {PERCEIVED!r}, so it is not a bias study; make one with bias.study"
        )
    return as_classifier(build_scorer(found))


def reference_of(made: Study) -> Reference:
    """By model and group: the shares that the group was given, else those planted in Menagerie's data; else nothing."""
    own = {str(row.columns["group"]): _own(row.columns) for row in made.rows if "group" in row.columns}
    return {
        (model.name, group): said or (planted(group) if model.source in NAMES else {})
        for model in made.models
        for group, said in own.items()
    }


def _methods(arms: Mapping[str, Arm], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with the arms among the interventions."""
    added = [_arm(name, arm) for name, arm in arms.items()]
    return {**fields, "interventions": [*several(fields.get("interventions", PLAIN)), *added]}


def _arm(name: str, arm: Arm) -> Method:
    """An arm as an intervention, whose texts are those of each prompt's row."""
    said, strength = arm if isinstance(arm, tuple) else (arm, 1.0)
    towards = said.data() if isinstance(said, Concept) else f"${_column(name)}"
    settings: dict[str, Any] = {"towards": towards, "away": f"${UNSTEERED}", "strength": float(strength)}
    if isinstance(arm, str):
        settings = {"prompts": {"0": towards}}
    return Method(method=SCHEDULE if isinstance(arm, str) else STEER, label=name, **settings)


def _said(arm: Arm) -> str | Concept:
    return arm[0] if isinstance(arm, tuple) else arm


def _check_concepts(arms: Mapping[str, Arm], rows: Sequence[Any]) -> None:
    concepts = [said.prompt for said in map(_said, arms.values()) if isinstance(said, Concept)]
    if concepts and len(rows) > 1:
        raise BadInput(
            f"the concept {concepts[0]!r} is said in a template of its own, so it can stand for one prompt, and this "
            f"study has {len(rows)}; give one group and one template"
        )


def _inside(fields: Mapping[str, Any]) -> list[Method]:
    """What is read of a recording, where there is one."""
    return [inside.method()] if fields.get("explainers") or "traces" in fields.get("keep", ()) else []


def _column(arm: str) -> str:
    return f"arm_{arm}"


def _row(template: str, group: Group, arms: Mapping[str, Arm]) -> dict[str, Any]:
    shares = {
        f"{REFERENCE}_{attribute}_{label}": share
        for attribute, labels in group.reference.items()
        for label, share in labels.items()
    }
    prompt = fill(template, group)
    said = {_column(name): _said(arm) for name, arm in arms.items()}
    texts = {column: fill(text, group) for column, text in said.items() if isinstance(text, str)}
    texts |= {UNSTEERED: prompt} if arms else {}
    return {"prompt": prompt, "group": group.group, "template": template, **texts, **shares}


def _own(columns: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The reference as it stands in a row's columns."""
    found: dict[str, dict[str, float]] = {}
    for name, share in columns.items():
        head, _, rest = name.partition("_")
        attribute, _, label = rest.partition("_")
        if head == REFERENCE and share is not None:
            found.setdefault(attribute, {})[label] = float(share)
    return found


def _named(classifier: Classifier | None) -> Classifier:
    return MenagerieJudge() if classifier is None else classifier
