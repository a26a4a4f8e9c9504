"""Every family of denoisers: its attention is read, exactly, on the right columns, and its picture stays as it is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import probe
from probe.attach.kept.attention import AttentionReader
from probe.attach.kept.passes import span
from tests import pipelines
from tests.attach.looking import SPECIAL, Seen, checking, seen

UNETS = {"sd1": 7, "sd2": 7, "sdxl": 11, "kolors": 11}
STARTED = dict.fromkeys(("sd1_img2img", "sd1_inpaint", "instruct_pix2pix", "sd1_controlnet"), 7)
STARTED |= dict.fromkeys(("sdxl_img2img", "sdxl_inpaint", "sdxl_instruct_pix2pix", "sdxl_controlnet"), 11)
JOINT = {"sd3": 2, "sd35": 2, "flux1": 5, "flux2": 5, "flux2_klein": 5, "qwen_image": 2, "z_image": 2, "cogview4": 2}
JOINT |= {"aura_flow": 4, "chroma": 5, "lumina2": 2, "hidream": 4, "hunyuan_image": 4}
CROSS = {"pixart_sigma": 2, "sana": 2, "hunyuan_dit": 4}
FILMS = {"cogvideox": 2, "wan": 2, "wan22": 4, "ltx": 2, "hunyuan_video": 4, "animate_diff": 7}
FILMS |= {"hunyuan_video15": 2}
ADAPTED = {"sd1_lora": 7, "sdxl_lora": 11, "sd3_lora": 2, "flux1_lora": 5, "sd1_ip_adapter": 7, "sdxl_ip_adapter": 11}
ADAPTED |= {"sd1_pag": 7, "sdxl_pag": 11, "sd3_pag": 2, "sd1_fused": 7, "sd3_fused": 2, "flux1_fused": 5}
SITES = UNETS | STARTED | JOINT | CROSS | FILMS | ADAPTED  # modules in which cells attend to text
JOINTLY = {*JOINT, "sd3_lora", "flux1_lora", "sd3_pag", "sd3_fused", "flux1_fused", "cogvideox", "hunyuan_video"}
JOINTLY |= {"hunyuan_video15"}
ALL = tuple(SITES)


def look(family: str) -> Seen:
    return seen(family, words=("*", *SPECIAL, *(("<image>",) if family in JOINTLY else ())))


def values(seen: Seen) -> Iterator[np.ndarray]:
    """Readings of each grid, words first, without the steps in which an expert rests."""
    for node in seen.trace.attention_nodes():
        array = node["attention"].transpose("word", "step", "site", ...).values
        yield array[:, ~np.isnan(array[0]).reshape(*array.shape[1:3], -1).all(-1)]


def test_no_family_is_left_out():
    assert {*ALL, "kandinsky22"} == set(pipelines.FAMILIES)


@pytest.mark.parametrize("family", ALL)
def test_the_picture_stays_the_same_to_the_bit(family: str):
    assert np.array_equal(look(family).plain, look(family).recorded)


@pytest.mark.parametrize("family", ALL)
def test_every_site_gives_readings_at_every_step(family: str):
    trace = look(family).trace
    assert len(trace.sites) == SITES[family]
    held = [node["attention"] for node in trace.attention_nodes()]
    assert sorted(str(path) for array in held for path in array["site"].values) == sorted(s.path for s in trace.sites)
    for array in held:
        read = np.isfinite(array.values).all(axis=tuple(range(2, array.ndim)))  # [site, step]
        assert read.all() or family == "wan22"
        assert read.any(axis=0).all() and read.any(axis=1).all()


@pytest.mark.parametrize("family", ALL)
def test_columns_are_those_of_the_explicit_softmax(family: str):
    errors = look(family).checks.errors
    assert len(errors) == SITES[family]
    assert max(errors.values()) < 1e-6


@pytest.mark.parametrize("family", ALL)
def test_all_columns_together_are_one(family: str):
    for array in values(look(family)):
        assert np.abs(array.sum(0) - 1).max() < 1e-5


@pytest.mark.parametrize("family", ALL)
def test_the_grid_is_that_of_the_latents(family: str):
    trace = look(family).trace
    y, x = trace.node("/latents")["latents"].shape[-2:]
    assert y / x == pytest.approx(pipelines.HEIGHT / pipelines.WIDTH)
    for site in trace.sites:
        assert site.grid[0] / site.grid[1] == pytest.approx(y / x)


# Cause and effect: the state of a word moves, and its keys, no others, must move with it.


def last(ids: Tensor, wanted: list[int]) -> Tensor:
    """True on the last place of each row where the wanted ids follow one another."""
    marked = torch.zeros_like(ids, dtype=torch.bool)
    for row, found in zip(ids.tolist(), marked, strict=True):
        starts = [i for i in range(len(row)) if row[i : i + len(wanted)] == wanted]
        for start in starts[-1:]:
            found[start : start + len(wanted)] = True
    return marked


@contextmanager
def pushed(pipe: Any, encoder: str, wanted: list[int]) -> Iterator[None]:
    """Let an encoder give other states where it last reads the wanted ids."""
    module, where = pipe.components[encoder], []

    def before(module: Any, args: Any, kwargs: Any) -> None:
        where.append(last(kwargs["input_ids"] if "input_ids" in kwargs else args[0], wanted))

    def push(state: Any) -> Any:
        if isinstance(state, tuple):
            return tuple(push(part) for part in state)
        if not isinstance(state, Tensor) or state.ndim != 3:
            return state
        rows = where[-1] if state.shape[:2] == where[-1].shape else where[-1].T  # ChatGLM's states are [t, b, c]
        return state + rows[..., None] * torch.linspace(0, 8, state.shape[-1])  # which no norm takes back

    def after(module: Any, args: Any, output: Any) -> None:
        for name, value in list(output.items()):
            output[name] = push(value)

    handles = [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def keys(pipe: Any, word: str, run: Callable[[], Any]) -> tuple[Tensor, list[int]]:
    """The cond row's keys [h, m, d] at the first site that reads, and a word's columns there, in the first pass."""
    held: list[AttentionReader] = []
    with checking() as checks, probe.record(pipe, words=[word]), pytest.MonkeyPatch.context() as patch:
        begin = AttentionReader.begin_pass
        patch.setattr(AttentionReader, "begin_pass", lambda self, current: (held.append(self), begin(self, current))[1])
        run()
    reader = held[0]
    reading = [(call, current) for call, current in checks.calls if reader.places[call.path, call.rank].reads]
    call, current = next((c, p) for c, p in reading if any(row.branch == "cond" for row in p.rows))
    row = next(i for i, row in enumerate(current.rows) if row.branch == "cond")
    site = reader.places[call.path, 0].site
    first = span(call, site, reader.family, current.texts[row])[1] if site is not None else 0
    each = call.k.shape[0] // len(current.rows)
    return call.k[row * each].clone(), [column + first for column in reader.lexicons["cond", 0].columns]


def moved(
    pipe: Any, encoder: str, spellings: Iterable[Sequence[int]], before: Tensor, run: Callable[[], Any]
) -> set[int]:
    """The keys that move when an encoder gives other states where it reads one of these spellings."""
    found = set[int]()
    for spelling in spellings:
        with pushed(pipe, encoder, list(spelling)):
            after, _ = keys(pipe, "cat", run)
        found |= set(torch.nonzero((after - before).abs().amax((0, 2)) > 1e-4).flatten().tolist())
    return found


def without_refiners(pipe: Any) -> None:
    """Take out the layers in which tokens of the text mix before the picture asks them."""
    transformer = getattr(pipe, "transformer", None)
    embedder = getattr(getattr(transformer, "context_embedder", None), "token_refiner", None)
    for owner, name in ((transformer, "context_refiner"), (embedder, "refiner_blocks")):
        if hasattr(owner, name):
            setattr(owner, name, torch.nn.ModuleList())


COLUMNS_OF = {"text_encoder_2": {"sd3": "text_encoder", "sd35": "text_encoder", "sdxl": "text_encoder"}}
ENCODERS = dict.fromkeys(("sd3", "sd35"), ("text_encoder", "text_encoder_2", "text_encoder_3"))
ENCODERS |= dict.fromkeys(("sdxl", "hunyuan_dit"), ("text_encoder", "text_encoder_2")) | {"flux1": ("text_encoder_2",)}
ENCODERS |= {"hidream": ("text_encoder_3", "text_encoder_4")}
CAUSAL = [(f, e) for f in UNETS | JOINT | CROSS | FILMS for e in ENCODERS.get(f, ("text_encoder",))]


@pytest.mark.parametrize(("family", "encoder"), CAUSAL)
def test_the_columns_of_a_word_are_those_that_its_state_moves(family: str, encoder: str):
    pipe = pipelines.load(family)
    without_refiners(pipe)
    tokenizer = getattr(pipe, encoder.replace("text_encoder", "tokenizer"))
    word = f"cat@{COLUMNS_OF.get(encoder, {}).get(family, encoder)}"
    run = partial(pipelines.run, pipe, family, output_type="latent")
    before, columns = keys(pipe, word, run)
    spellings = {tuple(tokenizer(text, add_special_tokens=False).input_ids) for text in ("cat", " cat")}
    assert moved(pipe, encoder, spellings, before, run) == set(columns)
