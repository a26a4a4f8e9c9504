"""Relations beside cells to words: each against the whole matrix of the very same calls, in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch

import probe
from probe.attach.kept import relations
from probe.attach.kept.passes import Pass
from probe.attach.waist import Call, log_sum_exp
from probe.errors import BadInput, NoMatch, OverBudget
from probe.trace import Trace
from tests import pipelines
from tests.attach.looking import checking, softmax64

ALL = ("image->text", "text->image", "text->text", "image->image", "image->image:rows", "image->image:columns")
ALL += ("image->image:low-rank", "image->image:full")
WORDS = ["cat", "red", "balloon"]
CELLS = [(0.0, 0.0), (0.3, 0.9)]
Calls = dict[str, tuple[Call, Pass]]


def record(family: str, relations: tuple[str, ...] = (), **options: object) -> tuple[Trace, Calls]:
    """A recording, of all relations that the family has, and the first call of every module in the first step."""
    pipe = pipelines.pipeline(family)
    relations = relations or tuple(kind for kind in ALL if family != "sd1" or not kind.startswith("text"))
    with checking() as checks, probe.record(pipe, WORDS, relations=relations, cells=CELLS, **options) as recording:
        recorded = pipelines.run(pipe, family)
    assert np.array_equal(recorded, pipelines.run(pipe, family))
    calls: Calls = {}
    for call, current in checks.calls:
        calls.setdefault(call.path, (call, current))
    return recording.trace, calls


def whole(calls: Calls, path: str) -> np.ndarray:
    """[n, m]: the mean over heads of the cond row's P."""
    call, current = calls[path]
    row = next(i for i, row in enumerate(current.rows) if row.branch == "cond")
    return softmax64(call)[row].mean(0).numpy()


LAYOUT = {"sd1": (0, 0), "flux1": (32, 0), "sd3": (0, 96), "z_image": (0, 96), "aura_flow": (40, 8)}  # picture, text


@pytest.mark.parametrize("family", ["sd1", "flux1", "sd3", "z_image", "aura_flow"])
def test_cells_to_cells(family: str):
    trace, calls = record(family)
    at = {"step": 0, "branch": "cond", "image": 0}
    start = LAYOUT[family][0]
    for grid, node in trace.tree["relations/image_to_image/mean"].children.items():
        y, x = map(int, grid.split("x"))
        names = ("mean", "rows", "columns", "full")
        own = {name: trace.node(f"relations/image_to_image/{name}/{grid}") for name in names}
        for path in node["site"].values:
            P = whole(calls, str(path))[start : start + y * x, start : start + y * x]
            part = {name: found.sel(site=path, **at) for name, found in own.items()}
            assert np.allclose(part["mean"]["received"].values.reshape(-1), P.mean(0), atol=1e-6)
            assert np.allclose(part["full"]["share"].values.reshape(y * x, y * x), P, atol=1e-6)
            chosen = [0, int(0.3 * y) * x + int(0.9 * x)]
            assert np.allclose(part["rows"]["share"].values.reshape(2, -1), P[chosen], atol=1e-6)
            assert np.allclose(part["columns"]["share"].values.reshape(2, -1), P[:, chosen].T, atol=1e-6)


def test_a_low_rank_summary_is_the_best_one():
    trace, calls = record("sd1")
    node = trace.node("relations/image_to_image/low_rank/8x12").sel(step=0, branch="cond", image=0)
    for path in node["site"].values:
        P = whole(calls, str(path))
        part = node.sel(site=path)
        u, s, v = part["asking"].values.reshape(4, -1), part["size"].values, part["asked"].values.reshape(4, -1)
        best = np.linalg.svd(P, compute_uv=False)
        error = np.linalg.norm(P - (u.T * s) @ v)
        assert np.allclose(s[0], best[0], rtol=1e-4)
        assert error < 1.05 * np.linalg.norm(best[4:])


@pytest.mark.parametrize("family", ["flux1", "sd3", "z_image", "aura_flow"])
def test_words_to_cells_and_to_words(family: str):
    trace, calls = record(family)
    picture, text = LAYOUT[family]
    starts = {"text_encoder": 0, "text_encoder_3": 77} if family == "sd3" else dict.fromkeys(trace.words[0].tokens, 0)
    tokens = {w.label: [first + i for name, first in starts.items() for i in w.tokens[name]] for w in trace.words}
    to_image = trace.node("relations/text_to_image/8x12")["share"].sel(step=0, branch="cond", image=0)
    to_text = trace.node("relations/text_to_text")["share"].sel(step=0, branch="cond", image=0)
    for path in to_image["site"].values:
        P = whole(calls, str(path))
        for word in WORDS:
            rows = [text + i for i in tokens[word]]
            expected = P[rows, picture : picture + 96].mean(0)
            assert np.allclose(to_image.sel(site=path, word=word).values.reshape(-1), expected, atol=1e-6)
            for other in WORDS:
                columns = [text + i for i in tokens[other]]
                expected = P[np.ix_(rows, columns)].sum(1).mean()
                assert to_text.sel(site=path, word=word, to_word=other).item() == pytest.approx(expected, abs=1e-6)


def farthest(family: str, *, exact: bool) -> dict[str, float]:
    """By relation, how far it is at most from the definition, where the model's queries are 300 times as large."""
    pipe = pipelines.pipeline(family)
    module = pipe.unet if family == "sd1" else pipe.transformer
    parts = [part for name, part in module.named_modules() if name.endswith(("to_q", "add_q_proj"))]
    handles = [part.register_forward_hook(lambda _, given, output: 300 * output) for part in parts]
    trace, calls = record(family, exact=exact)
    for handle in handles:
        handle.remove()
    found: dict[str, float] = {}
    for name in ("mean", "rows", "columns", "full"):
        for grid, node in trace.tree[f"relations/image_to_image/{name}"].children.items():
            y, x = map(int, grid.split("x"))
            chosen = [0, int(0.3 * y) * x + int(0.9 * x)]
            for path in node["site"].values:
                P = whole(calls, str(path))[: y * x, : y * x]
                expected = {"mean": P.mean(0), "rows": P[chosen], "columns": P[:, chosen].T, "full": P}[name]
                (array,) = node.sel(site=path, step=0, branch="cond", image=0).data_vars.values()
                off = float(np.abs(array.values.reshape(expected.shape) - expected).max())
                found[name] = max(off, found.get(name, 0.0))
    return found


@pytest.mark.parametrize("family", ["sd1", "sd3"])
def test_relations_are_read_to_the_last_digits_if_asked(family: str):
    rough, exact = farthest(family, exact=False), farthest(family, exact=True)
    assert max(rough.values()) > 1e-6
    assert max(exact.values()) < 1e-7


def test_text_that_is_refined_alone_is_read_too():
    trace, _ = record("z_image", ("text->text",))
    assert any("context_refiner" in str(path) for path in trace.node("relations/text_to_text")["site"].values)
    assert not trace.attention_nodes()
    assert trace.labels == ()


@pytest.mark.parametrize("family", ["cogvideox", "wan", "ltx", "hunyuan_video"])
def test_frames_to_frames_in_one_sequence(family: str):
    trace, calls = record(family, ("image->text", "frame->frame"))
    start = 32 if family == "cogvideox" else 0
    (path,) = trace.tree["relations/frame_to_frame"].children
    node = trace.node(f"relations/frame_to_frame/{path}").sel(step=0, branch="cond", image=0)
    frames, cells = node.sizes["frame"], int(np.prod(list(map(int, path.split("x")))[1:]))
    for site in node["site"].values:
        P = whole(calls, str(site))[start : start + frames * cells, start : start + frames * cells]
        expected = P.reshape(frames, cells, frames, cells).sum(-1).mean(1)
        assert np.allclose(node["share"].sel(site=site).values, expected, atol=1e-6)


def test_frames_to_frames_in_layers_of_their_own():
    trace, calls = record("animate_diff", ("image->text", "frame->frame", "image->image"))
    nodes = [node.to_dataset() for node in trace.tree["relations/frame_to_frame"].children.values()]
    for node in nodes:
        part = node.sel(step=0, branch="cond", image=0)
        for site in part["site"].values:
            assert "motion_modules" in str(site)
            call, _ = calls[str(site)]
            half = len(call.q) // 2  # uncond, then cond: one entry a cell
            expected = softmax64(call)[half:].mean((0, 1)).numpy()
            assert np.allclose(part["share"].sel(site=site).values, expected, atol=1e-6)
            assert np.allclose(part["share"].sel(site=site).values.sum(-1), 1, atol=1e-5)
    mean = trace.node("relations/image_to_image/mean/4x8x12")["received"].sel(step=0, branch="cond", image=0)
    for site in mean["site"].values:
        call, _ = calls[str(site)]
        expected = softmax64(call)[len(call.q) // 2 :].mean((1, 2)).numpy()  # [frame, cells]
        assert np.allclose(mean.sel(site=site).values.reshape(4, -1), expected, atol=1e-6)


def test_blocks_never_hold_every_row(monkeypatch: pytest.MonkeyPatch):
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, 300, 8, generator=draw) for _ in range(2))
    call = Call("a", 0, q, k, k, None, 8**-0.5, False, 0.0)
    monkeypatch.setattr("probe.attach.waist.CHUNK", 20_000)
    every, sums = slice(0, 300), log_sum_exp(call, slice(None))
    sizes = [p.shape[1] for _, p in relations.blocks(call, every, every, sums)]
    assert sum(sizes) == 300 and max(sizes) <= 34
    expected = softmax64(call).mean((1, 2))
    assert torch.allclose(relations.received(call, every, every, sums).double(), expected, atol=1e-6)


def test_the_whole_matrix_must_be_asked_for_and_fit():
    trace, _ = record("sd1", ("image->text", "image->image"))
    assert "full" not in trace.tree["relations/image_to_image"].children
    passes: list[int] = []
    handle = pipelines.pipeline("sd1").unet.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(OverBudget, match=r"image->image:full at unet.* has 384 cells.*low-rank"):
        record("sd1", ("image->image:full",), budget=500_000)
    handle.remove()
    assert passes == []


def test_relations_that_do_not_exist_are_named():
    with pytest.raises(BadInput, match=r"no relation 'text->picture'; there are: image->text, image->image, temporal"):
        record("sd1", ("text->picture",))
    with pytest.raises(BadInput, match="from 0 to 1"):
        probe.record(pipelines.pipeline("sd1"), relations=["image->image:rows"], cells=[(8, 8)])


def test_relations_that_a_model_has_not_are_refused():
    with pytest.raises(NoMatch, match=r"relations=\['text->image'\]: no site of this model has any"):
        record("sd1", ("image->text", "text->image"))
    with pytest.raises(NoMatch, match=r"relations=\['text->image', 'frame->frame'\]: no site of this model has any"):
        record("sd1", ("text->image", "temporal"))
    with pytest.raises(BadInput, match=r"cells=\[\]: name the cells"):
        probe.record(pipelines.pipeline("sd1"), relations=["image->image:rows"], cells=[])


def test_relations_are_kept_on_disk(tmp_path: Path):
    trace, _ = record("sd3")
    trace.save(tmp_path / "trace")
    again = probe.open(tmp_path / "trace")
    assert again.equals(trace)
    part = again.sel(word="cat", step=0, site="transformer_blocks.0")
    assert part.node("relations/text_to_image/8x12").sizes["word"] == 1
