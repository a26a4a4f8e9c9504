"""Models that are not in the table: inferred layouts give the same readings, or an error says what is missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import probe
from probe.attach.model.families import FAMILIES, Family, Stream, denoiser
from probe.attach.model.infer import Joins, streams_of
from probe.attach.text.hearing import Encoded, Heard
from probe.errors import MissingReadings, ProbeWarning, UnknownFamily
from probe.trace import Trace
from tests import pipelines

WORDS = ["cat", "red", "balloon"]
LAYOUTS = (
    "sd1",
    "sdxl",
    "sd3",
    "sd35",
    "flux1",
    "flux2",
    "flux2_klein",
    "cogview4",
    "aura_flow",
    "chroma",
    "pixart_sigma",
)
FILMS = ("cogvideox", "wan", "ltx", "hunyuan_video", "animate_diff")


def recorded(family: str) -> Trace:
    pipe = pipelines.pipeline(family)
    with probe.record(pipe, WORDS) as recording:
        pipelines.run(pipe, family)
    return recording.trace


def forgotten(monkeypatch: pytest.MonkeyPatch, family: str) -> str:
    """Take a family out of the table; returns the class of its denoiser."""
    name = type(denoiser(pipelines.pipeline(family))[1]).__name__
    for key in [key for key in FAMILIES if key.partition("/")[0] == name]:
        monkeypatch.delitem(FAMILIES, key)
    return name


@pytest.mark.parametrize("family", LAYOUTS + FILMS)
def test_an_unknown_family_gives_the_same_readings(family: str, monkeypatch: pytest.MonkeyPatch):
    known = recorded(family)
    name = forgotten(monkeypatch, family)
    with pytest.warns(ProbeWarning, match=f"{name} is not in the table of families; its layout was inferred: text"):
        inferred = recorded(family)
    assert inferred.run.family == name
    assert inferred.sites == known.sites
    for ours, theirs in zip(inferred.attention_nodes(), known.attention_nodes(), strict=True):
        assert np.allclose(ours["attention"].values, theirs["attention"].values, atol=1e-6)
    for norm in ("cond_norm", "difference_norm"):
        if norm in known.node("/guidance"):
            assert np.allclose(inferred.node("/guidance")[norm], known.node("/guidance")[norm], rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "missing"),
    [
        ("lumina2", r"attends from (\d+) rows to \1 columns: neither the 160 columns of text nor a grid of 8 x 12"),
        ("z_image", r"attends from 32 rows to 32 columns: neither the 25 columns of text nor a grid of 16 x 24 cells"),
        ("hunyuan_dit", r"attends from 24 rows to 333 columns: neither the 77 columns of text"),
    ],
)
def test_what_cannot_be_inferred_is_named_with_a_recipe(family: str, missing: str, monkeypatch: pytest.MonkeyPatch):
    name = forgotten(monkeypatch, family)
    with pytest.raises(
        UnknownFamily, match=rf"(?s){name} is not in the table.*{missing}.*five lines:.*FAMILIES\[\"{name}\"\]"
    ):
        recorded(family)


def test_the_recipe_works(monkeypatch: pytest.MonkeyPatch):
    known = recorded("sd3")
    entry = FAMILIES["SD3Transformer2DModel"]
    forgotten(monkeypatch, "sd3")
    described = Family(
        "mine", "last", (replace(entry.streams[0], beside=()), Stream("text_encoder_3", "tokenizer_3")), patch=2
    )
    monkeypatch.setitem(FAMILIES, "SD3Transformer2DModel", described)
    again = recorded("sd3")
    assert again.run.family == "mine"
    assert np.array_equal(again.attention_nodes()[0]["attention"], known.attention_nodes()[0]["attention"])


def test_joins_are_seen_along_the_sequence_only():
    joins = Joins()
    joins.start()
    try:
        registers, text, picture = torch.zeros(1, 8, 4), torch.zeros(1, 32, 4), torch.zeros(1, 96, 4)
        sequence = torch.cat([torch.cat([registers, text], dim=1), picture], dim=1)
        torch.cat([picture, picture], dim=-1)
        torch.cat([torch.zeros(7), torch.zeros(9)])
    finally:
        joins.stop()
        joins.stop()
    assert sequence.shape[1] == 136
    assert joins.parts == {40: (8, 32), 136: (8, 32, 96)}
    assert torch._C._len_torch_function_stack() == 0


def test_an_interrupted_first_pass_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch):
    forgotten(monkeypatch, "flux1")
    pipe = pipelines.pipeline("flux1")

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    handle = pipe.transformer.single_transformer_blocks[0].register_forward_hook(stop)
    try:
        with pytest.raises(KeyboardInterrupt), probe.record(pipe):
            pipelines.run(pipe, "flux1")
    finally:
        handle.remove()
    assert torch._C._len_torch_function_stack() == 0


def test_linear_attention_is_known_by_its_processor_or_has_to_be_named(monkeypatch: pytest.MonkeyPatch):
    forgotten(monkeypatch, "sana")
    with pytest.warns(ProbeWarning, match="inferred"):
        assert all(site.path.endswith("attn2") for site in recorded("sana").sites)
    monkeypatch.setattr("probe.attach.recording.weightless", lambda module: False)
    with pytest.raises(MissingReadings, match=r"attn1.*Family\(silent=\.\.\.\)"):
        recorded("sana")


def encoded(given: dict[str, torch.Tensor], states: torch.Tensor, ids: int = 6) -> Encoded:
    rows = [
        Heard(name, tuple(range(len(value))), (True,) * ids + (False,) * (len(value) - ids))
        for name, value in given.items()
    ]
    gave = {name: [(value,)] for name, value in given.items()}
    return Encoded(("a cat",), states={"cond": [states]}, heard=rows, given=gave)


def test_streams_are_told_by_what_their_encoders_gave():
    clip, t5 = torch.randn(10, 4), torch.randn(20, 8)
    assert streams_of("A", encoded({"text_encoder": clip, "text_encoder_2": t5}, t5)) == (
        Stream("text_encoder_2", "tokenizer_2"),
    )
    (narrow,) = streams_of("A", encoded({"text_encoder_2": t5, "text_encoder": clip}, clip[2:]))
    assert (narrow.encoder, narrow.keeps) == ("text_encoder", "tail")
    (inside,) = streams_of("A", encoded({"text_encoder_2": t5, "text_encoder": clip}, clip[2:8], ids=10))
    assert (inside.encoder, inside.drop) == ("text_encoder", 2)
    both = {"text_encoder": clip, "text_encoder_2": torch.randn(10, 4)}
    (side_by_side,) = streams_of("A", encoded(both, torch.randn(10, 8)))
    assert side_by_side.beside == (("text_encoder_2", "tokenizer_2"),)
    assert [
        s.encoder for s in streams_of("A", encoded({"text_encoder": clip, "text_encoder_2": t5}, torch.randn(30, 8)))
    ] == [
        "text_encoder",
        "text_encoder_2",
    ]
    for keeps, part in {
        "attended": t5[:6],
        "tail": t5[-17:],
        "first and tail": t5[[0, *range(3, 20)]],
        "all": t5[:9],
    }.items():
        assert streams_of("A", encoded({"text_encoder": t5}, part))[0].keeps in (
            keeps,
            "all" if keeps == "attended" else keeps,
        )
