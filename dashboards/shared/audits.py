"""Saved bias studies beside the traces, and what their numbers look like on a page."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

import probe
from dashboards.shared import charts
from dashboards.shared.kept import Kept
from probe.bias.audits import SUMMARY, Audit
from probe.bias.inside import ALL
from probe.bias.report import settings
from probe.bias.shares import needed
from probe.bias.tables import SETTING, shown_labels

WITHIN = 0.1  # how far an interval of a share may reach before the page warns
MEAN = "mean of the groups"

_SAVED: Kept[Audit] = Kept("bias study", SUMMARY, probe.bias.open)
names, place, try_open = _SAVED.names, _SAVED.place, _SAVED.try_open


def attributes(audit: Audit) -> list[str]:
    """What the classifier read, in the order of the study."""
    return [str(name) for name in audit.shares["attribute"].unique()]


def of(table: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """The rows of one attribute, with the setting in words in front."""
    rows = table.loc[table["attribute"] == attribute]
    return rows.assign(setting=settings(rows)) if len(rows) else rows.assign(setting=pd.Series(dtype=str))


def few(audit: Audit, attribute: str) -> tuple[int, str, int] | None:
    """Pictures read in the smallest group, which that is, and how many it would take; None where all have enough."""
    rows = of(audit.shares, attribute)
    least = rows.loc[rows["read"].idxmin()]
    enough = needed(WITHIN, confidence=audit.confidence)
    return (int(least["read"]), str(least["group"]), enough) if least["read"] < enough else None


def share_table(audit: Audit, attribute: str) -> pd.DataFrame:
    """One row a group, setting and label: what was read, corrected, and in the data."""
    columns = ["group", "setting", "label", "read", "share", "low", "high"]
    fixed = ["corrected", "corrected_low", "corrected_high", "reference", "over"]
    return of(audit.shares, attribute).reindex(columns=[*columns, *fixed]).dropna(axis="columns", how="all")


def labels(audit: Audit, attribute: str) -> list[str]:
    """The labels that are drawn: of two the first, as the other is what is left."""
    return list(shown_labels([str(label) for label in of(audit.shares, attribute)["label"].unique()]))


def amplified(audit: Audit, attribute: str) -> pd.DataFrame:
    """Amplification with its interval, one row a setting: of the mean of groups, then of each; none without data."""
    columns = ["group", "setting", "amplification", "low", "high"]
    groups, mean = of(audit.cells, attribute), of(audit.overall, attribute).assign(group=MEAN)
    parts = [part.dropna(subset="amplification").reindex(columns=columns) for part in (mean, groups)]
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def amplification_chart(frame: pd.DataFrame) -> alt.LayerChart:
    """A dot and a line for each group and setting, around the line of no amplification."""
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(strokeDash=[4, 3], color="#808080").encode(x="x:Q")
    ticks = alt.Axis(tickCount=6)  # as few as to name 0
    across = {"title": "share above that in the data", "scale": alt.Scale(padding=12), "axis": ticks}
    return alt.LayerChart(layer=[zero, *_dots(frame, "amplification", across)])


def best(audit: Audit, attribute: str, label: str) -> pd.DataFrame:
    """One row a group and setting: the share of a label, corrected where the error is known, and that in the data."""
    rows = of(audit.shares, attribute)
    rows = rows.loc[rows["label"] == label].dropna(subset="share")
    fixed = rows["corrected"].notna()
    kept = {name: rows[name].where(~fixed, rows[f"corrected_{name}"]) for name in ("low", "high")}
    return rows.assign(share=rows["share"].where(~fixed, rows["corrected"]), **kept)


def share_chart(frame: pd.DataFrame) -> alt.LayerChart:
    """A dot and a line for each group and setting, and a bar across the group at the share in the data."""
    known = frame.dropna(subset="reference").drop_duplicates("group")
    tick = alt.Chart(known).mark_tick(thickness=3, color=charts.ink(), opacity=1)
    told = ["group:N", alt.Tooltip("reference:Q", format=".3f")]
    data = tick.encode(x="reference:Q", y=_down(frame), tooltip=told)
    across = {"title": "share; a bar is that in the data", "scale": alt.Scale(domain=[0, 1])}
    return alt.LayerChart(layer=[*_dots(frame, "share", across), data])


def _dots(frame: pd.DataFrame, value: str, across: Mapping[str, Any]) -> list[alt.Chart]:
    """A line from `low` to `high` and a dot, in the colour of the setting, group below group."""
    order = list(dict.fromkeys(frame["setting"]))
    colours = alt.Scale(domain=order, range=list(charts.series())[: len(order)])
    told = [alt.Tooltip(f"{name}:Q", format=".3f") for name in (value, "low", "high")]
    base = alt.Chart(frame).encode(
        y=_down(frame),
        yOffset=alt.YOffset("setting:N", sort=order),
        color=alt.Color("setting:N", sort=order, scale=colours, legend=_legend(order)),
        tooltip=["group:N", "setting:N", *told],
    )
    lines = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **across), x2="high:Q")
    return [lines, base.mark_point(filled=True, size=60, opacity=1).encode(x=alt.X(f"{value}:Q", **across))]


def _down(frame: pd.DataFrame) -> alt.Y:
    """The groups below each other, in their order."""
    order = list(dict.fromkeys(frame["group"]))
    return alt.Y("group:N", sort=order, title=None, scale=alt.Scale(padding=0.3), axis=alt.Axis(labelLimit=180))


def _legend(order: list[str]) -> alt.Legend | None:
    return alt.Legend(title=None, orient="top", columns=2, labelLimit=220) if len(order) > 1 else None


def changes(audit: Audit, attribute: str) -> list[str]:
    """How much the mean amplification changes from the first setting, in words."""
    rows = of(audit.overall, attribute).to_dict("records")
    return [
        f"{row['setting']} against {rows[0]['setting']}: {row['change']:+.3f} "
        f"({row['change_low']:+.3f} to {row['change_high']:+.3f}), mean over {row['groups']} groups"
        for row in rows[1:]
    ]


def tests(audit: Audit, attribute: str) -> pd.DataFrame:
    """Paired comparisons at equal seeds: what was set against what, how far they differ, p with and without Holm."""
    rows = audit.comparisons.loc[audit.comparisons["attribute"] == attribute]
    sides = [name for name in [*SETTING, "group"] if len(rows) and _differs(rows, name)]
    columns = ["between", *(column for name in sides for column in (name, f"second_{name}")), "label"]
    return rows.reindex(columns=[*columns, "difference", "low", "high", "pairs", "p", "p_holm"])


def inside(audit: Audit, attribute: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the model did inside pictures with a label, less what it did in the others: of all groups, and of each."""
    rows, columns = of(audit.inside, attribute), ["measure", "label", "setting", "difference", "low", "high", "p_holm"]
    every = rows["group"] == ALL
    return rows.loc[every].reindex(columns=columns), rows.loc[~every].reindex(columns=["group", *columns, "mean"])


def costs(audit: Audit) -> pd.DataFrame:
    """What each setting costs in other scores, against the first."""
    rows = audit.costs.assign(setting=settings(audit.costs) if len(audit.costs) else [])
    return rows.reindex(columns=["setting", "score", "pictures", "value", "difference", "low", "high"])


def _differs(rows: pd.DataFrame, name: str) -> bool:
    both = np.concatenate([rows[name].astype(str), rows[f"second_{name}"].astype(str)])
    return len(set(both)) > 1
