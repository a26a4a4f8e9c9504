"""The table: held-out overlaps, paired differences, scopes, and where nothing was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probe.explain import METHODS, faithfulness, ranking
from probe.explain.ranking import OVERLAP, markdown, measured, ordered, summary


def rows() -> pd.DataFrame:
    """Four pictures of a cat and something red; the map of "best" is the mask at level 1, that of "daam" never."""
    lines = []
    for picture in range(4):
        for method, value in (("best", 0.8), ("daam", 0.5), ("attention", 0.25)):
            for word, role in (("cat", "noun"), ("red", "colour")):
                curve = np.zeros(len(faithfulness.LEVELS))
                curve[7] = value + 0.1 * (role == "noun")
                line = {
                    "picture": picture,
                    "source": "scene",
                    "method": method,
                    "word": word,
                    "role": role,
                    "kind": word,
                }
                lines.append(line | {"measure": "overlap", "value": np.nan, "curve": tuple(curve)})
                lines.append(line | {"measure": "pointing", "value": float(picture < 2), "curve": ()})
    return pd.DataFrame(lines)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return summary(rows())


def value(table: pd.DataFrame, scope: str, method: str, measure: str) -> float:
    (found,) = table.query("scope == @scope and method == @method and measure == @measure")["mean"]
    return found


def test_means_by_scope(table: pd.DataFrame):
    assert set(table["scope"]) == {"all", "scene", "noun", "colour", "cat", "red"}
    assert value(table, "all", "best", OVERLAP) == pytest.approx(0.85)
    assert value(table, "noun", "best", OVERLAP) == value(table, "cat", "best", OVERLAP) == pytest.approx(0.9)
    assert value(table, "all", "daam", "pointing") == 0.5
    assert table.query("scope == 'all' and method == 'daam' and measure == 'pointing'")["count"].tolist() == [8]


def test_differences_are_paired_and_not_of_a_baseline_with_itself(table: pd.DataFrame):
    assert value(table, "all", "best", f"{OVERLAP} over daam") == pytest.approx(0.3)
    assert value(table, "all", "daam", f"{OVERLAP} over attention") == pytest.approx(0.25)
    assert "daam" not in set(table[table["measure"] == f"{OVERLAP} over daam"]["method"])


def test_the_intervals_hold_the_mean(table: pd.DataFrame):
    assert ((table["low"] <= table["mean"] + 1e-12) & (table["mean"] <= table["high"] + 1e-12)).all()
    wide = table.query("scope == 'all' and measure == 'pointing'")
    assert (wide["low"] < 0.5).all() and (wide["high"] > 0.5).all()


def test_the_best_comes_first(table: pd.DataFrame):
    assert ordered(table[table["scope"] == "all"]) == ["best", "daam", "attention"]
    lines = markdown(table).splitlines()
    assert lines[0].startswith(f"| method | {OVERLAP} | pointing | {OVERLAP} over daam |")
    assert lines[2].startswith("| best | 0.850 (0.850 to 0.850) | 0.500 (")
    assert len(lines) == 5


def test_nothing_measured_is_none(tmp_path: Path, table: pd.DataFrame):
    assert measured(tmp_path) is None
    table.to_csv(tmp_path / "table.csv", index=False)
    pd.testing.assert_frame_equal(measured(tmp_path), table)


def test_the_shipped_table_has_a_row_for_every_method():
    table = measured()
    assert table is None or {method.name for method in METHODS} <= set(table["method"])
    assert all(ranking.MEASURES.values())


def unmeasured(table: pd.DataFrame | None) -> list[str]:
    """Explainers that the shipped table does not rank; none as long as nothing is shipped."""
    ranked = None if table is None else set(table.loc[table["measure"] == ranking.OVERLAP, "method"])
    return [method.name for method in METHODS if ranked is not None and method.name not in ranked]


def test_no_explainer_is_shipped_without_its_row():
    assert unmeasured(pd.DataFrame({"measure": [ranking.OVERLAP], "method": ["daam"]}))[:2] == [
        "attention",
        "relevancy",
    ]
    assert unmeasured(ranking.measured()) == []
