"""An audit as a table for people, and as a figure."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from probe.bias.inside import ALL
from probe.bias.tables import SETTING, best, shown_labels
from probe.errors import BadInput
from probe.show.evaluation import Interval
from probe.show.shares import SharePanel, share_panels

if TYPE_CHECKING:
    from probe.bias.audits import Audit

HEAD = f"{'group':<18}{'setting':<18}{'label':<14}{'read':>5}  {'share':<24}{'corrected':<24}{'in the data':>11}"
NOTE = "Perceived attributes, read by {classifier}; {confidence:.0%} intervals."
UNKNOWN = "its error is not known, so nothing is corrected"
SENSITIVE = (
    "This is about people. Attributes here are what a classifier perceived in pictures of nobody; its labels are few, "
    "and they may repeat the stereotypes that the study looks for. Give the classifier and its error with every number."
)


def draw(audit: "Audit", attribute: str) -> Any:
    """One panel a label (of two labels: the first), one row a group, one dot a setting, a mark for the data's share."""
    rows = of(audit.shares, attribute)
    panels = [_panel(part, f"share perceived as {label}") for label, part in shown(rows)]
    return share_panels(panels, NOTE.format(classifier=audit.classifier, confidence=audit.confidence))


def _panel(rows: pd.DataFrame, title: str) -> SharePanel:
    first = rows.drop_duplicates("group").set_index("group")["reference"].astype(float)
    series = {
        str(name): [_interval(row) for row in part.to_dict("records")]
        for name, part in rows.assign(setting=settings(rows)).groupby("setting", sort=False)
    }
    return SharePanel(title, series, first.dropna().to_dict())


def _interval(row: dict[str, Any]) -> Interval:
    found = best(row)
    return Interval(str(row["group"]), found.value, found.low, found.high)


def text(audit: "Audit") -> str:
    """Shares, and how far they are from the data's, in lines."""
    head = NOTE.format(classifier=audit.classifier, confidence=audit.confidence)
    parts = [line for attribute in audit.shares["attribute"].unique() for line in _told(audit, str(attribute))]
    return "\n".join([head, *parts, *_costs(audit), *_linked(audit)])


def _told(audit: "Audit", attribute: str) -> Iterator[str]:
    """An attribute's lines: a head, its shares (of two labels the first), and what they come to."""
    rows, error = of(audit.shares, attribute), audit.errors.get(attribute)
    known = f"read rightly: {error.accuracy:.1%}" if error else UNKNOWN
    yield f"\n{attribute} ({known})"
    yield HEAD
    for _, part in shown(rows):
        yield from map(_line, part.to_dict("records"), settings(part))
    overall = audit.overall.loc[audit.overall["attribute"] == attribute]
    for row, setting in zip(overall.to_dict("records"), settings(overall), strict=True):
        found = span(row["amplification"], row["low"], row["high"], "+")
        yield f"mean amplification over {row['groups']} groups, {setting}: {found}"


def _costs(audit: "Audit") -> Iterator[str]:
    """The other scores at each setting, and how far they are from the first setting's."""
    if len(audit.costs):
        yield "\nother scores, and their distance to the first setting's"
    for row, setting in zip(audit.costs.to_dict("records"), settings(audit.costs), strict=True):
        found = span(row["difference"], row["low"], row["high"], "+")
        yield f"{_cut(setting, 17):<18}{_cut(row['score'], 23):<24}{number(row['value']):>8}  {found}"


def _linked(audit: "Audit") -> Iterator[str]:
    """What went on inside with a label, minus without it, over all groups."""
    rows = audit.inside.loc[audit.inside["group"] == ALL]
    if len(rows):
        yield "\ninside, where a label was perceived minus where not (each group less its mean); no cause is shown"
    for row, setting in zip(rows.to_dict("records"), settings(rows), strict=True):
        found, p = span(row["difference"], row["low"], row["high"], "+"), f"p {row['p_holm']:.3f}"
        yield f"{_cut(setting, 17):<18}{_cut(row['label'], 13):<14}{_cut(row['measure'], 17):<18}{found:<30}{p}"


def _line(row: dict[str, Any], setting: str) -> str:
    read = span(row["share"], row["low"], row["high"])
    fixed = span(row["corrected"], row["corrected_low"], row["corrected_high"])
    data = number(row["reference"])
    head = f"{_cut(row['group'], 17):<18}{_cut(setting, 17):<18}{_cut(row['label'], 13):<14}{row['read']:>5}"
    return f"{head}  {read:<24}{fixed:<24}{data:>11}"


def span(value: float, low: float, high: float, sign: str = "") -> str:
    """A number and its interval in words; a dash where there is none."""
    return f"{number(value, sign)} ({low:{sign}.3f} to {high:{sign}.3f})" if value == value else "-"


def number(value: float, sign: str = "") -> str:
    """Three digits, or a dash."""
    return f"{value:{sign}.3f}" if value == value and value is not None else "-"


def _cut(value: Any, most: int) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def of(shares: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """The rows of one attribute. Raises BadInput, listing those there are."""
    rows = shares.loc[shares["attribute"] == attribute]
    if rows.empty:
        raise BadInput(f"nothing was read of {attribute!r}; there is {', '.join(shares['attribute'].unique())}")
    return rows


def shown(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The labels that are shown, of two the first, each with its rows."""
    for label in shown_labels(list(rows["label"].unique())):
        yield str(label), rows.loc[rows["label"] == label]


def settings(rows: pd.DataFrame) -> list[str]:
    """Of each row the parts of its setting in which rows differ; the model where none does."""
    varied = [name for name in SETTING if len(set(rows[name].astype(str))) > 1] or ["model"]
    return [", ".join(_part(name, row[name]) for name in varied) for row in rows.to_dict("records")]


def _part(name: str, value: Any) -> str:
    if name in ("model", "method"):
        return str(value)
    return f"{name} {value:g}" if value == value and value is not None else f"no {name}"
