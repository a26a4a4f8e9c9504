"""Two traces beside each other: identity, symmetry, hand-made distances, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.spatial.distance import jensenshannon

import probe
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.explain import distances
from probe.explain.differences import KINDS, REST
from probe.explain.pairing import paired
from probe.trace import Trace
from tests import pipelines
from tests.factories import make_trace
from tests.pipelines import adapters

RNG = np.random.default_rng(3)
EVEN = ("correlation", "divergence", "shift")


def with_branches(trace: Trace, turn: float) -> Trace:
    """A trace whose guidance points along an angle in the plane of the first two cells, at every step."""
    tree = trace.tree.copy()
    node = trace.node("latents")
    pull = np.zeros(node["predicted"].shape, np.float16)
    pull[..., 0, 0], pull[..., 0, 1] = np.cos(turn), np.sin(turn)
    added = {"predicted_cond": node["predicted"].dims, "predicted_uncond": node["predicted"].dims}
    values = {"predicted_cond": 3 + pull, "predicted_uncond": np.full_like(pull, 3)}
    tree["latents"] = node.assign({name: (dims, values[name]) for name, dims in added.items()})
    return replace(trace, tree=tree)


def test_a_trace_is_at_no_distance_from_itself():
    trace = with_branches(make_trace(), 0.4)
    found = probe.compare(trace, trace)
    assert found.words == ("cat", "balloon")
    assert found.settings.empty and found.notes == () and not any(found.alone.values())
    np.testing.assert_allclose(found.distances["correlation"], 1)
    for name in ("divergence", "shift", "shift_y", "shift_x"):
        assert not found.distances[name].any()
    np.testing.assert_allclose(found.guidance["cosine"], 1)
    assert all(not array.any() for array in found.latents.data_vars.values()) and found.picture == 0
    for part in (found.guidance, found.distances, found.maps, found.mass):
        for name in ("difference_norm", "amount", "share"):
            if name in part:
                xr.testing.assert_equal(*(part[name].sel(trace=side, drop=True) for side in ("first", "second")))


def test_the_other_way_round_is_as_far_and_the_shift_is_turned():
    ours, theirs = make_trace(seed=0), make_trace(seed=1)
    there, back = probe.compare(ours, theirs), probe.compare(theirs, ours)
    for name in EVEN:
        np.testing.assert_allclose(there.distances[name], back.distances[name])
    np.testing.assert_allclose(there.distances["shift_x"], -back.distances["shift_x"])
    np.testing.assert_allclose(there.latents["latents"], back.latents["latents"])
    assert there.settings.to_numpy().tolist() == [["seed", "0", "1"]]
    assert back.settings.to_numpy().tolist() == [["seed", "1", "0"]]


def test_distances_of_a_group_are_those_of_its_maps():
    """Recomputed from the mean over the sites of "up" in float64, by scipy and numpy."""
    ours, theirs = make_trace(seed=0), make_trace(seed=1)
    found = probe.compare(ours, theirs).distances.sel(group="up", step=2, word="balloon")
    assert (int(found["rows"]), int(found["columns"])) == (16, 16)
    a, b = (probe.attention(each, "balloon", sites="up_blocks", steps=2).values.values for each in (ours, theirs))
    a, b = a.astype(np.float64), b.astype(np.float64)
    assert float(found["correlation"]) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert float(found["divergence"]) == pytest.approx(jensenshannon(a.ravel(), b.ravel(), base=2) ** 2)
    across = [(x * (np.arange(16) + 0.5)).sum() / x.sum() for x in (a, b)]
    assert float(found["shift_x"]) == pytest.approx(across[1] - across[0])
    assert found["amount"].values == pytest.approx([a.mean(), b.mean()])


def test_equations_by_hand():
    a, b = np.zeros((2, 4, 4))
    a[1, 0], b[3, 2] = 5.0, 0.5
    assert distances.divergence(a, b) == pytest.approx(1)  # no common cell
    assert (distances.centre(b) - distances.centre(a)).tolist() == [2, 2]
    half = np.array([[1.0, 1.0], [0.0, 0.0]])
    whole = np.array([[1.0, 0.0], [0.0, 0.0]])
    by_hand = 0.5 * (np.log2(1 / 0.75)) + 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25))
    assert distances.divergence(whole, half) == pytest.approx(by_hand)
    assert distances.correlation(half, 1 - half) == pytest.approx(-1)
    assert distances.correlation(half, 7 * half + 2) == pytest.approx(1)
    assert distances.rms(np.zeros((1, 4)), np.array([[2.0, 0, 0, 0]])).tolist() == [1.0]


def test_flat_and_empty_maps_have_no_distance():
    map_, flat, nothing = RNG.random((4, 4)), np.full((4, 4), 0.1, np.float32).astype(float), np.zeros((4, 4))
    assert np.isnan(distances.correlation(map_, flat)) and np.isnan(distances.correlation(nothing, map_))
    assert np.isnan(distances.divergence(map_, nothing)) and np.isnan(distances.centre(nothing)).all()
    assert np.isnan(distances.cosine(np.zeros((1, 3)), np.ones((1, 3)))[0])


def test_the_cosine_is_of_the_two_guidances():
    found = probe.compare(with_branches(make_trace(), 0.0), with_branches(make_trace(seed=1), np.pi / 3))
    np.testing.assert_allclose(found.guidance["cosine"], 0.5, atol=2e-3)  # kept as float16 beside 3
    assert "cosine" not in probe.compare(make_trace(), make_trace()).guidance


def test_latents_and_pictures_differ_by_their_root_mean_square():
    trace = make_trace(images=2)
    found = probe.compare(trace, trace, images=(0, 1))
    values = trace.node("latents")["latents"].values.astype(np.float64)
    by_hand = [np.sqrt(((z[0] - z[1]) ** 2).mean()) for z in values[:-1]]
    assert found.latents["latents"].values == pytest.approx(by_hand)
    small = trace.node("thumbnails")["thumbnails"].values.astype(np.float64) / 255
    assert float(found.latents["thumbnails"][3]) == pytest.approx(np.sqrt(((small[3, 0] - small[3, 1]) ** 2).mean()))
    a, b = (np.asarray(each, np.float64) / 255 for each in trace.pictures)
    assert found.picture == pytest.approx(np.sqrt(((a - b) ** 2).mean()))


def test_a_cut_trace_keeps_its_steps_beside_those_of_the_other():
    whole = make_trace(steps=6)
    tree = whole.tree.copy()
    tree["latents"] = whole.node("latents").drop_vars("time")  # as it is recorded
    cut = replace(whole, tree=tree).sel(step=slice(2, 5))
    found = probe.compare(whole, cut)
    assert found.latents["step"].values.tolist() == found.distances["step"].values.tolist() == [2, 3, 4]
    assert not found.latents["latents"].any() and not found.distances["divergence"].any()


def test_steps_of_runs_of_two_lengths_stand_beside_each_other_by_share():
    assert paired([0, 1], range(6), (2, 6)) == [(0, 1), (1, 4)]
    assert paired(range(6), [0, 1], (6, 2)) == [(1, 0), (4, 1)]
    assert paired([0, 2, 3], [0, 1, 3], (4, 4)) == [(0, 0), (3, 3)]
    assert paired([0, 1], [], (2, 4)) == []
    found = probe.compare(make_trace(steps=6), make_trace(steps=3))
    assert found.distances["step"].values.tolist() == [0, 2, 4]
    assert found.distances["second_step"].values.tolist() == [0, 1, 2]
    assert "steps" in found.settings["setting"].tolist()


def test_maps_of_two_grids_are_brought_to_the_coarser():
    fine, coarse = make_trace(grids=((16, 16),)), make_trace(grids=((8, 4),))
    found = probe.compare(fine, coarse)
    assert found.maps["share"].shape[-2:] == (8, 4)
    assert set(found.distances["rows"].values) == {8} and set(found.distances["columns"].values) == {4}
    assert (found.ranked()["correlation"] > 0.8).all()  # the same blobs


def test_words_of_one_prompt_are_listed_and_can_be_set_beside_others():
    ours, theirs = make_trace(words=("cat", "balloon")), make_trace(words=("dog", "Balloon"))
    found = probe.compare(ours, theirs)
    assert found.words == ("balloon",) and found.alone == {"first": ("cat",), "second": ("dog",)}
    assert found.distances["second_word"].values.tolist() == ["Balloon"]
    found = probe.compare(ours, theirs, words={"cat": "dog"})
    assert found.words == ("cat",) and float(found.distances["correlation"].mean()) > 0.9
    assert "words of the second only: dog" in str(found)
    nothing = probe.compare(ours, make_trace(words=("dog",)))
    assert nothing.words == () and all('words={"cat": "dog"}' in note for note in nothing.notes)
    assert nothing.guidance.data_vars and nothing.mass.data_vars
    with pytest.raises(NotRecorded, match="set words beside each other"):
        nothing.ranked()


def test_a_word_that_is_not_there_is_an_error_that_names_the_trace():
    with pytest.raises(
        NoSuchWord, match="in the second trace, 'cat' was not recorded; the words of this trace are: dog"
    ):
        probe.compare(make_trace(), make_trace(words=("dog",)), words="cat")
    with pytest.raises(NoMatch, match="no group 'side' of sites is in both traces; there are: all, down, up"):
        probe.compare(make_trace(), make_trace()).ranked("side")


def test_what_was_not_recorded_is_said():
    whole = make_trace()
    bare = replace(whole, tree=xr.DataTree(), pictures=())
    found = probe.compare(whole, bare)
    said = "\n".join(found.notes)
    assert "maps: the second trace holds no attention; record it with probe.record(pipe, words=[...])" in said
    assert "guidance: the second trace holds no guidance of picture 0; record it with probe.record(pipe)" in said
    assert "latents: no latents of one shape are in both" in said
    assert found.table().empty and np.isnan(found.picture) and "Comparison of" in repr(found)


def test_mass_by_class_of_token_adds_up():
    trace = make_trace()
    share = probe.compare(trace, trace.sel(word=["cat", "<start>"])).mass["share"]
    assert share["kind"].values.tolist() == [*KINDS, REST]
    np.testing.assert_allclose(share.sum("kind"), 1)
    whole, cut = share.sel(trace="first"), share.sel(trace="second")
    np.testing.assert_allclose(whole.sel(kind="<start>"), cut.sel(kind="<start>"))
    np.testing.assert_allclose(whole.sel(kind=REST), 0, atol=1e-5)
    assert np.isnan(cut.sel(kind="<end>")).all() and np.isnan(whole.sel(kind="other")).all()
    assert float(cut.sel(kind="content").mean()) < float(whole.sel(kind="content").mean())


def test_settings_that_differ_are_named():
    ours, theirs = make_trace(), make_trace()
    run = theirs.run.model_copy(
        update={"guidance_scale": 2.0, "scheduler": {"_class_name": "Euler"}, "seconds": 99.0, "created": "later"}
    )
    asked = {"interventions": [{"method": "AttendAndExcite", "strength": 0.5}]}
    found = probe.compare(ours, replace(theirs, run=run, extra=asked)).settings.set_index("setting")
    assert found.loc["guidance_scale"].tolist() == ["5", "2"]
    assert found.loc["scheduler._class_name"].tolist() == ["DDIMScheduler", "Euler"]
    assert found.loc["scheduler.beta_schedule"].tolist() == ["scaled_linear", ""]
    assert found.loc["intervention 1"].tolist() == ["", "method=AttendAndExcite, strength=0.5"]
    assert not {"seconds", "created"} & set(found.index)


def test_the_farthest_word_is_on_top_and_the_table_is_tidy():
    ours = make_trace(words=("cat", "balloon"))
    moved = make_trace(words=("balloon", "cat", "dog"))  # the cat is where the balloon was, near enough
    found = probe.compare(ours, moved)
    ranked = found.ranked()
    assert ranked["divergence"].is_monotonic_decreasing
    assert ranked.set_index("word").loc["cat", "shift_x"] > 0
    table = found.table()
    assert list(table.columns) == list(found.COLUMNS)
    one = table.query("measure == 'divergence' and group == 'all' and word == 'cat' and step == 1")["value"]
    assert one.tolist() == [float(found.distances["divergence"].sel(group="all", word="cat", step=1))]
    assert set(table["part"]) == {"distances", "guidance", "latents", "mass"}


def test_it_is_shown_in_a_notebook_and_nothing_in_it_acts():
    found = probe.compare(make_trace(words=("<b>cat", "bow")), make_trace(words=("<b>cat", "dog"), seed=1))
    page = found._repr_html_()
    assert "<b>cat" not in page and "&lt;b&gt;cat" in page
    assert page.count("<img") == 2 and "<th>divergence</th>" in page and "only: bow" in page


def test_a_real_pair_of_runs(tmp_path: Path):
    """Saved and opened again, the parts are the same; the first states are the same noise, the later ones are not."""
    pipe = pipelines.load("sd1")
    traces = []
    for scale in (2.0, 7.0):
        with probe.record(pipe) as recording:
            pipe(
                "a cat and a bow",
                num_inference_steps=3,
                guidance_scale=scale,
                generator=torch.Generator().manual_seed(0),
            )
        traces.append(recording.trace)
    found = probe.compare(*traces)
    assert found.settings["setting"].tolist() == ["guidance_scale"]
    assert float(found.latents["latents"][0]) == 0 < float(found.latents["latents"][1])
    assert float(found.guidance["cosine"][0]) == pytest.approx(1, abs=1e-6)
    assert {"all", "down", "mid", "up"} == set(found.distances["group"].values)
    saved = [probe.open(trace.save(tmp_path / str(i))) for i, trace in enumerate(traces)]
    pd.testing.assert_frame_equal(probe.compare(*saved).table(), found.table())


def test_a_lora_is_told_and_switched_off_it_leaves_nothing():
    pipe = pipelines.load("sd1")
    traces = []
    for change in (lambda: None, lambda: adapters.load_lora(pipe), pipe.disable_lora):
        change()
        with probe.record(pipe, words=["cat"]) as recording:
            pipe("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0))
        traces.append(recording.trace)
    plain, tuned, off = traces
    assert tuned.extra["adapters"] == {"unet": {"tiny": [1.0]}} and "adapters" not in off.extra
    found = probe.compare(plain, tuned)
    assert found.settings.to_numpy().tolist() == [["adapter.unet.tiny", "", "1"]]
    assert float(found.distances["divergence"].max()) > 0 == float(found.latents["latents"][0])
    same = probe.compare(plain, off)
    assert same.settings.empty and not same.distances["divergence"].any() and same.picture == 0


def test_a_lora_that_was_fused_is_told_after_it_was_unloaded():
    pipe, traces = pipelines.load("sd1"), []

    def fuse() -> None:
        adapters.load_lora(pipe)
        pipe.fuse_lora(components=["unet"])
        pipe.unload_lora_weights()

    for change in (lambda: None, fuse):
        change()
        with probe.record(pipe, words=["cat"]) as recording:
            pipe("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(0))
        traces.append(recording.trace)
    plain, tuned = traces
    assert tuned.extra["fused"] == ["tiny"] and "fused" not in plain.extra and "adapters" not in tuned.extra
    found = probe.compare(plain, tuned)
    assert found.settings.to_numpy().tolist() == [["fused", "", "tiny"]]
    assert float(found.distances["divergence"].max()) > 0
