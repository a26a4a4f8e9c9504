"""A bias study in a report: who read the pictures and how often that is wrong, shares with intervals, costs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from probe.show.page import check_target, publish, render_page
from probe.show.render import figure_data


@dataclass(frozen=True)
class Sheet:
    """A table in words: `rows` of cells under `head`, the first of each naming its row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class AuditPart:
    """What a report says of one attribute. `error`: the classifier's confusion matrix in lines, or nothing."""

    name: str
    told: str
    figure: Figure
    alt: str
    error: str = ""
    sheets: Sequence[Sheet] = ()


@dataclass(frozen=True)
class AuditCard:
    """What a report says of a bias study. `warning` stands before all, `limits` behind; `sheets`: of all attributes."""

    title: str
    subtitle: str
    warning: str
    parts: Sequence[AuditPart]
    sheets: Sequence[Sheet] = ()
    limits: Sequence[str] = ()


def audit_report(card: AuditCard, path: str | os.PathLike[str], *, exist_ok: bool = False) -> Path:
    """Write a bias study's page as one HTML file and return its path; see `probe.show.report`. Raises OutputError."""
    target = check_target(path, exist_ok)
    return publish(render_audit(card), target)


def render_audit(card: AuditCard) -> str:
    """The page as a string of HTML."""
    figures = [figure_data(part.figure) for part in card.parts]
    return render_page("audit.html.j2", prompt=card.title, card=card, figures=figures)
