"""Turned until even: one word of a concept, or the strength of a steering, by bisection over the arms of a study.

    knob = probe.bias.coefficient(concept, "man")          # its coefficient, from as it was found down to none
    found = probe.bias.balance("doctor", knob, seeds="0-99", folder="out/even")

Every value that is tried is an arm of one bias study in one folder: all of it is kept there, and the same call goes on
where it was interrupted.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from probe.bias.audits import Audit, audit
from probe.bias.confusion import Confusion
from probe.bias.knob import Knob
from probe.bias.question import classifier_of, study
from probe.bias.report import span
from probe.bias.shares import Estimate
from probe.bias.tables import best
from probe.errors import BadInput
from probe.study.question import Study
from probe.study.results import replace_file

BALANCE = "balance.json"
SCORERS = ("judge", "clip")  # what Menagerie's pictures are scored by, so that a cost is known
LEAST = 2  # values: the first and the last
WIDE = 0.3  # of an interval that says hardly more than that there is a share


@dataclass(frozen=True)
class Aim:
    """What is made even: the share of a label, by default the first of the classifier's first attribute.

    `share`: None is that of equally frequent labels. `most`: so many values are tried, the first and the last included.
    """

    attribute: str | None = None
    label: str | None = None
    share: float | None = None
    most: int = 8

    def __post_init__(self) -> None:
        if self.most < LEAST or (self.share is not None and not 0 < self.share < 1):
            raise BadInput(
                f"{self.most} values and a share of {self.share} are asked for; {LEAST} values at least, and a share "
                "between 0 and 1"
            )


@dataclass(frozen=True)
class Try:
    """One value: pictures drawn and read, the share (corrected where the error is known), other scores less plain's."""

    value: float
    method: str
    pictures: int
    read: int
    share: Estimate
    costs: Mapping[str, Estimate] = field(default_factory=dict)

    def side(self, wanted: float) -> int:
        """0 where the interval holds the wanted share; else whether it lies above (1) or below (-1)."""
        return int(self.share.low > wanted) - int(self.share.high < wanted)


@dataclass(frozen=True)
class Balance:
    """What a search found: every value that was tried, in order. `attribute`, `label`, `wanted`: what was made even.

    Even means that the interval of this many pictures holds the wanted share, not that the share is that one. The value
    was chosen for how these seeds came out: draw `best` again at other ones before you rely on it.
    """

    knob: str
    group: str
    attribute: str
    label: str
    wanted: float
    classifier: str
    tries: tuple[Try, ...]

    @property
    def best(self) -> Try:
        """The value whose share lies nearest to the wanted one; an even one, if there is one."""
        return min(self.tries, key=lambda each: (each.side(self.wanted) != 0, abs(each.share.value - self.wanted)))

    @property
    def even(self) -> bool:
        """Whether one was found whose interval holds the wanted share."""
        return any(each.side(self.wanted) == 0 for each in self.tries)

    @property
    def one_way(self) -> bool:
        """Whether no two intervals contradict that the share goes one way; where they do, bisection may miss it."""
        ordered = [each.share for each in sorted(self.tries, key=lambda each: each.value)]
        pairs = [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]
        return not (any(a.high < b.low for a, b in pairs) and any(a.low > b.high for a, b in pairs))

    @property
    def table(self) -> pd.DataFrame:
        """One row a value, in the order they were tried; of each cost its difference to plain, with an interval."""
        return pd.DataFrame([_row(each) for each in self.tries])

    def save(self, folder: str | Path) -> Path:
        """Write balance.json into the study's folder; returns it."""
        tries = json.loads(str(self.table.to_json(orient="records")))
        data = {"format": "probe bias balance", "schema_version": 1, **vars(self), "tries": tries}
        data |= {"even": self.even, "one_way": self.one_way, "best": self.best.value, "told": self.told}
        return replace_file(Path(folder) / BALANCE, json.dumps(data, indent=1).encode())

    @property
    def told(self) -> str:
        """What came of it, in a sentence."""
        best, sides = self.best, {each.side(self.wanted) for each in self.tries}
        at = f"{self.knob} {best.value:g}: {_span(best.share)} perceived as {self.label}, of {best.read} pictures read"
        if 0 in sides:
            little = " That is little: take more seeds." if best.share.high - best.share.low > WIDE else ""
            return (
                f"Even, as far as this many pictures can tell, at {at}.{little} Try other seeds before you rely on it."
            )
        if len(sides) == 1:
            return f"Not even: the shares stay on one side; turn further, or turn something else. Best at {at}."
        return f"Not even after {len(self.tries)} values, the most that were asked for. Best at {at}."

    def __str__(self) -> str:
        head = f"{self.group}: {self.attribute} as perceived by {self.classifier}; wanted {self.wanted:g} {self.label}"
        lines = [f"{each.method:<26}{each.read:>5}  {_span(each.share):<26}{_costs(each)}" for each in self.tries]
        more = [] if self.one_way else ["The shares do not go one way, so a value between may be even after all."]
        return "\n".join([head, *lines, *more, self.told])


def balance(
    group: Any,
    knob: Knob,
    *,
    aim: Aim | None = None,
    errors: Mapping[str, Confusion] | None = None,
    run: Callable[[Study], Any] = Study.run,
    **fields: Any,
) -> Balance:
    """Turn a knob until a group's shares are even, as far as the pictures of each value can tell; or say what was best.

    Each value draws every seed and template of `fields`, which are those of `study`; `within` says how wide an interval
    may be. The middle is tried of what encloses the wanted share, which supposes that the share goes one way.
    `errors`: as in `audit`; `run` runs a study. Raises BadInput, also for more than one model or setting.
    """
    chosen, values, tries = aim or Aim(), list[float](), list[Try]()
    ask = partial(_study, group, knob, fields)
    classifier = classifier_of(ask((knob.last,)))
    attribute, label = _named(classifier.labels, chosen)
    wanted = chosen.share or 1 / len(classifier.labels[attribute])

    def measure(value: float) -> Try:
        values.append(value)
        made = ask(values)
        run(made)
        found = audit(made, errors=errors)
        found.save(made.path)
        return _read(found, value, knob.method(value), attribute=attribute, label=label)

    for each in bisect(measure, knob, wanted=wanted, most=chosen.most):
        tries.append(each)
    name = str(ask(()).rows[0].columns["group"])
    found = Balance(knob.name, name, attribute, label, wanted, classifier.name, tuple(tries))
    found.save(ask(()).path)
    return found


def bisect(measure: Callable[[float], Try], knob: Knob, *, wanted: float, most: int) -> Iterator[Try]:
    """The first value, the last, and then the middle of what encloses the wanted share; up to one that is even."""
    low = measure(knob.first)
    yield low
    if low.side(wanted) == 0:
        return
    high = measure(knob.last)
    yield high
    for _ in range(most - LEAST if high.side(wanted) == -low.side(wanted) else 0):
        middle = measure((low.value + high.value) / 2)
        yield middle
        if middle.side(wanted) == 0:
            return
        low, high = (middle, high) if middle.side(wanted) == low.side(wanted) else (low, middle)


def _study(group: Any, knob: Knob, fields: Mapping[str, Any], values: Any) -> Study:
    """The study with an arm for each value, in the order they were tried."""
    arms = {knob.method(value): knob.arm(value) for value in values if value != knob.plain}
    own = {} if "models" in fields else {"scorers": SCORERS}
    made = study([group], arms=arms, **{"name": "balance", **own, **fields})
    several = [name for name in ("models", "steps", "guidance") if len(getattr(made, name)) > 1]
    if several:
        raise BadInput(f"one setting is made even at a time, and there are several {several[0]}; give one")
    return made


def _named(labels: Mapping[str, tuple[str, ...]], aim: Aim) -> tuple[str, str]:
    """The attribute and the label that are meant. Raises BadInput, listing what the classifier reads."""
    attribute = aim.attribute or next(iter(labels))
    label = aim.label or next(iter(labels.get(attribute, ())), "")
    if label not in labels.get(attribute, ()):
        known = "; ".join(f"{name}: {', '.join(each)}" for name, each in labels.items())
        raise BadInput(f"the classifier reads no {attribute} {label!r}; it reads {known}")
    return attribute, label


def _read(found: Audit, value: float, method: str, *, attribute: str, label: str) -> Try:
    """What an audit says of one arm. Raises BadInput where nothing was read there."""
    rows = found.shares.query("method == @method and attribute == @attribute and label == @label").to_dict("records")
    if not rows or not rows[0]["read"]:
        raise BadInput(f"no picture of {method!r} could be read for {attribute}; look at the study's table for why")
    costs = found.costs.loc[found.costs["method"] == method].to_dict("records")
    spans = {each["score"]: Estimate(each["difference"], each["low"], each["high"]) for each in costs}
    return Try(value, method, int(rows[0]["pictures"]), int(rows[0]["read"]), best(rows[0]), spans)


def _row(each: Try) -> dict[str, Any]:
    row = {"value": each.value, "method": each.method, "pictures": each.pictures, "read": each.read}
    row |= {"share": each.share.value, "low": each.share.low, "high": each.share.high}
    for name, cost in each.costs.items():
        row |= {name: cost.value, f"{name}_low": cost.low, f"{name}_high": cost.high}
    return row


def _costs(each: Try) -> str:
    return "  ".join(f"{name} {_span(cost, '+')}" for name, cost in each.costs.items())


def _span(found: Estimate, sign: str = "") -> str:
    return span(found.value, found.low, found.high, sign)
