"""Which map is true: its rows, on untrained weights and two steps, and the arithmetic of taking words away."""

import argparse
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from experiments import trials
from experiments import which_map_is_true as experiment
from probe.errors import BadInput
from probe.explain import METHODS, ranking
from probe.generator import judge as judging
from probe.generator import weights
from tests.experiments.test_menagerie_card import Certain, untrained
from tests.explain.test_faithfulness import heatmap
from tests.factories import make_trace

INSIDE = np.zeros((8, 8), bool)
INSIDE[:4] = True


@cache
def without(gone: frozenset[str]) -> np.ndarray:
    """A picture of which "cat" makes the upper half, 8 of 10, and "red" the lower half and 2 of the upper."""
    upper = 8.0 * ("cat" not in gone) + 2.0 * ("red" not in gone)
    return np.concatenate([np.full((4, 8, 3), upper), np.full((4, 8, 3), 5.0 * ("red" not in gone))])


def test_the_right_order_changes_the_subject_sooner():
    right, wrong = (trials.curves(order, INSIDE, without) for order in (("cat", "red"), ("red", "cat")))
    assert right["deletion"] == pytest.approx((0.0 / 2 + 0.8 + 1.0 / 2) / 2)
    assert wrong["deletion"] == pytest.approx((0.0 / 2 + 0.2 + 1.0 / 2) / 2)
    assert right["least first"] == wrong["deletion"] and wrong["least first"] == right["deletion"]
    assert right["insertion"] == pytest.approx((0.0 / 2 + 0.8 + 1.0 / 2) / 2)  # what comes back with the cat alone
    assert (right["deletion outside"], wrong["deletion outside"]) == pytest.approx((0.25, 0.75))  # by "red" alone
    assert (right["change inside"], wrong["change inside"]) == pytest.approx((1.0, 2 / 7))


@pytest.mark.parametrize(("order", "expected"), [(("cat", "red", "a"), 1.0), (("a", "red", "cat"), -1.0)])
def test_the_order_of_words_is_held_against_leaving_each_out(order: tuple[str, ...], expected: float):
    assert trials.curves(order, INSIDE, without)["order of words"] == pytest.approx(expected)


def test_two_words_have_no_correlation():
    assert "order of words" not in trials.curves(("cat", "red"), INSIDE, without)


def test_without_a_change_there_is_no_curve():
    assert trials.curves(("cat", "red"), INSIDE, lambda gone: np.zeros((8, 8, 3))) == {}


def test_words_are_ranked_by_what_is_inside():
    maps = {"cat": heatmap([[0.0, 0.0], [9.0, 9.0]]), "red": heatmap([[2.0, 2.0], [0.0, 0.0]])}
    assert trials.ranked(maps, INSIDE) == ["red", "cat"]
    assert trials.ranked(maps, ~INSIDE) == ["cat", "red"]


def test_a_prompt_without_some_words():
    trace = make_trace(words=("cat", "balloon"))
    assert trials.less(trace, frozenset({"cat"})) == "a and a balloon"
    assert trials.less(trace, frozenset()) == trace.prompt
    assert trials.less(trace, frozenset({"cat", "balloon"})) == "a and a"


def test_every_method_and_the_other_tools_readings_compete():
    assert {method.name for method in METHODS} | {"attention, last step"} <= set(trials.methods())
    assert list(trials.methods(["daam"])) == ["daam"]
    found = trials.asked({"relevancy": len, "rollout": len}, 50, 10)
    assert found["relations"] == ["image->text", "image->image:low-rank"]
    assert [type(each).__name__ for each in found["explain"]] == ["Relevancy"]
    assert found["explain"][0].steps == (2, 7, 12, 17, 22, 27, 32, 37, 42, 47)
    assert trials.asked({"relevancy": len}, 4, 10)["explain"][0].steps == (0, 1, 2, 3)
    both = trials.asked(trials.methods(["gradients", "gradient x input"]), 4, 10)["explain"]
    assert [(each.method, each.label) for each in both] == [
        ("integrated_gradients", None),
        (trials.SLOPE, trials.SLOPE),
    ]
    assert [each.steps for each in both] == [(1, 3), (1, 3)]  # half of the looks, in the middles of their parts
    assert both[0].samples == 4 and not both[0].checkpoints
    shapley = trials.asked({"shapley": len}, 50, 10)["explain"][0]
    assert shapley.steps == (7, 17, 27, 37, 47)


def test_a_scene_is_seen_again_under_the_same_noise(bench: trials.Bench):
    scene = experiment.scene(bench, 0)
    picture, caption = scene.trace.pictures[0], scene.trace.prompt
    first, again, other = (bench.glimpse(picture, text, 0) for text in (caption, caption, ""))
    assert first.shape == (picture.height, picture.width, 3 * trials.GLIMPSES)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(bench.glimpse(picture, caption, 1), first)


class Half(Certain):
    """Sees a cat in the top left, and something red."""

    verdict = judging.Verdict(
        (judging.Instance("cat", np.kron(np.eye(2, dtype=bool), np.ones((64, 64), bool)), "red"),), ""
    )


def narrow() -> Any:
    """Menagerie's layout and its attention at 16 x 16, in layers a fourth as wide."""
    pipe = untrained(32).pipe
    for name, widths in (("unet", (16, 32, 48)), ("vae", (8, 16, 24))):
        made = type(getattr(pipe, name))
        torch.manual_seed(0)
        config = dict(getattr(pipe, name).config) | {"block_out_channels": widths, "norm_num_groups": 8}
        setattr(pipe, name, made.from_config(config).eval())
    return pipe


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> trials.Bench:
    monkeypatch.setattr(experiment, "prompts", lambda: ("a cat and a red bowl", "a dog"))
    return trials.Bench(
        narrow(), Half(judging.Network()), 2, 2, trials.methods(["attention", "daam", "attention, last step"])
    )


@pytest.fixture
def given(tmp_path: Path) -> argparse.Namespace:
    return experiment.arguments(["--small", "--out", str(tmp_path / "out")])


def test_it_measures_goes_on_and_publishes(bench: trials.Bench, given: argparse.Namespace, monkeypatch):
    given.steps, given.causal, given.sane = 2, 1, 1
    monkeypatch.setattr(trials, "GLIMPSES", 1)
    rows = experiment.measure(bench, given)
    assert set(rows["source"]) == {"scene", "generated"} and set(rows["picture"]) == {0, 1}
    assert set(rows["method"]) == set(bench.methods)
    assert {"overlap", "precision", "pointing", "shuffled weights", "another prompt", "sums to one"} <= set(
        rows["measure"]
    )
    assert {"deletion", "insertion", "change inside"} <= set(rows.query("source == 'scene'")["measure"])
    assert rows.query("measure == 'sums to one'")["value"].max() < 1e-4
    assert set(rows.query("source == 'generated'")["word"]) >= {"cat", "red"}  # the judge sees no bowl
    monkeypatch.setattr(trials.Bench, "record", None)  # nothing is drawn again
    pd.testing.assert_frame_equal(experiment.measure(bench, given), rows)
    table = experiment.publish(rows, given.out, given.out / "home")
    assert {"table.csv", "ranking.png", "attention.png", "attention-last-step.png"} <= {
        path.name for path in (given.out / "home").iterdir()
    }
    assert ranking.measured(given.out / "home")["count"].sum() == table["count"].sum()


def test_what_is_there_so_far_can_be_looked_at(given: argparse.Namespace, monkeypatch, capsys):
    given.out.mkdir(parents=True)
    with pytest.raises(BadInput, match="holds no rows yet; measure some"):
        experiment.main(["--look", "--out", str(given.out)])
    (given.out / "parts").mkdir()
    for number in range(2):
        rows = [trials.Row(number, "scene", "daam", "cat", "noun", "cat", "overlap", float("nan"), (0.5,) * 51)]
        experiment.write(given.out / "parts" / f"scene-{number:05d}.parquet", pd.DataFrame(map(asdict, rows)))
    monkeypatch.setattr(
        experiment, "case", lambda row, out: ("cat", Image.new("RGB", (8, 8)), INSIDE, np.zeros((32, 32)))
    )
    experiment.main(["--look", "--out", str(given.out)])
    assert "| daam | 0.500 (0.500 to 0.500) |" in capsys.readouterr().out


def test_costly_methods_are_measured_on_the_first_pictures_alone(bench: trials.Bench, given: argparse.Namespace):
    given.costly, given.causal, given.sane = 1, 0, 0
    costly = replace(bench, methods=trials.methods(["attention", "shapley", "gradients"]))
    rows = experiment.measure(costly, given)
    assert set(rows.query("picture == 0")["method"]) == {"attention", "shapley", "gradients"}
    assert set(rows.query("picture == 1")["method"]) == {"attention"}
    complete = rows.query("measure == 'completeness'")
    assert set(complete["method"]) == {"shapley", "gradients"}
    assert complete.query("method == 'shapley'")["value"].max() < 1e-4  # they share the guidance out exactly


def test_a_method_without_maps_is_not_hidden():
    rows = [("scene", "daam", "overlap"), ("generated", "daam", "pointing"), ("generated", "attention", "overlap")]
    found = pd.DataFrame(rows, columns=["source", "method", "measure"])
    assert experiment.silent(found, ["daam", "attention"]) == [
        "attention gave no map of any scene word",
        "daam gave no map of any generated word",
    ]


def test_rows_of_other_settings_are_not_mixed(tmp_path: Path):
    experiment.agree(tmp_path / "settings.json", {"steps": 4})
    experiment.agree(tmp_path / "settings.json", {"steps": 4})
    with pytest.raises(BadInput, match=r"holds rows of \{'steps': 4\}, not of \{'steps': 5\}; give another folder"):
        experiment.agree(tmp_path / "settings.json", {"steps": 5})


def test_the_settings_name_the_weights(bench: trials.Bench, given: argparse.Namespace):
    found = experiment.settings(bench, given)["weights"]
    assert weights.digest(weights.MENAGERIE / "unet" / "diffusion_pytorch_model.safetensors").startswith(found)


def test_the_page_has_a_paragraph_for_every_method(root: Path):
    page = (root / "docs" / "faithfulness.md").read_text(encoding="utf-8")
    assert [method.name for method in METHODS if f"\n### {method.name}\n" not in page] == []
