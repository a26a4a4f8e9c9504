"""A bias study as a report tells it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from probe.bias.inside import ALL
from probe.bias.report import NOTE, SENSITIVE, UNKNOWN, draw, number, of, settings, shown, span
from probe.show.audit import AuditCard, AuditPart, Sheet

if TYPE_CHECKING:
    from probe.bias.audits import Audit

GROUPS = 3  # named in a title
MEAN = "mean of the groups"
SHARES = ("group", "setting", "perceived as", "pictures read", "share as read", "corrected", "in the data", "above it")
AMPLIFIED = ("group", "setting", "most in the data", "amplification", "change from the first setting")
LINKED = ("what", "group", "setting", "perceived as", "with it", "without", "difference", "p (Holm)")
COSTS = ("score", "setting", "pictures", "mean", "difference to the first setting")
IN_DATA = (
    "The label that most have in the data: its share among the pictures, minus its share there (Zhao et al. 2017)."
)
LINK = (
    "What the model did in pictures with a label, minus in the others: attention to the group's word (noun), its share "
    "of the words' relevancy (relevancy_noun), and how hard guidance pulls (pull). Over all groups, each is taken less "
    "its mean. It goes with the outcome and is no cause of it: the noise may decide both."
)
COST = "Other scores of the same prompts and seeds: what each setting or arm costs, such as closeness to the prompt."


def card(audit: "Audit") -> AuditCard:
    """What a report says of a bias study."""
    from probe.bias.audits import LIMITS

    attributes = [str(name) for name in audit.shares["attribute"].unique()]
    groups = [str(name) for name in audit.shares["group"].unique()]
    named = f"{', '.join(groups[:GROUPS])}{f' and {len(groups) - GROUPS} more' if len(groups) > GROUPS else ''}"
    return AuditCard(
        f"Perceived {' and '.join(attributes)}: {named}",
        NOTE.format(classifier=audit.classifier, confidence=audit.confidence),
        SENSITIVE,
        [_part(audit, name) for name in attributes],
        [_linked(audit), _costs(audit)],
        LIMITS,
    )


def _part(audit: "Audit", attribute: str) -> AuditPart:
    error = audit.errors.get(attribute)
    known = f"reads {error.accuracy:.1%} of the labels rightly, in the mean" if error else UNKNOWN
    return AuditPart(
        attribute,
        f"Classifier: {audit.classifier}; {known}.",
        draw(audit, attribute),
        f"Shares of {attribute} by group and setting with {audit.confidence:.0%} intervals, beside those in the data",
        str(error or ""),
        [Sheet("Shares", SHARES, list(_shares(audit, attribute))), _amplified(audit, attribute)],
    )


def _shares(audit: "Audit", attribute: str) -> Iterator[list[str]]:
    for label, rows in shown(of(audit.shares, attribute)):
        for row, setting in _with_settings(rows):
            fixed = span(row["corrected"], row["corrected_low"], row["corrected_high"])
            above = span(row["over"], row["over_low"], row["over_high"], "+")
            read = span(row["share"], row["low"], row["high"])
            yield [row["group"], setting, label, str(row["read"]), read, fixed, number(row["reference"]), above]


def _amplified(audit: "Audit", attribute: str) -> Sheet:
    """Group by group, and their mean with its change; no rows where the data are not known."""
    means, groups = (table.loc[table["attribute"] == attribute] for table in (audit.overall, audit.cells))
    rows = [[MEAN, setting, "", *_change(row)] for row, setting in _with_settings(means)]
    known = groups.dropna(subset="amplification")
    cells = [[row["group"], setting, row["majority"], _spread(row), ""] for row, setting in _with_settings(known)]
    return Sheet("Amplification", AMPLIFIED, rows + cells, IN_DATA)


def _linked(audit: "Audit") -> Sheet:
    """All groups first."""
    rows = audit.inside.sort_values("group", key=lambda group: group != ALL, kind="stable")
    found = [[*_who(*each), _spread(each[0], "difference"), number(each[0]["p_holm"])] for each in _with_settings(rows)]
    return Sheet("Internal measures", LINKED, found, LINK)


def _who(row: dict[str, Any], setting: str) -> list[str]:
    return [row["measure"], row["group"], setting, row["label"], str(row["with"]), str(row["without"])]


def _costs(audit: "Audit") -> Sheet:
    rows = [
        [row["score"], setting, str(row["pictures"]), number(row["value"]), _spread(row, "difference")]
        for row, setting in _with_settings(audit.costs)
    ]
    return Sheet("What it costs", COSTS, rows, COST)


def _with_settings(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], str]]:
    return zip(rows.to_dict("records"), settings(rows), strict=True)


def _spread(row: dict[str, Any], name: str = "amplification") -> str:
    return span(row[name], row["low"], row["high"], "+")


def _change(row: dict[str, Any]) -> list[str]:
    """A mean amplification, and its change; the first setting has none."""
    moved = row["change_low"] < row["change_high"]
    return [_spread(row), span(row["change"], row["change_low"], row["change_high"], "+") if moved else "-"]
