"""Films and sounds that nobody prepared for: exact, rightly labelled readings, or an error with a way out."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import probe
from probe.attach.kept.passes import Pass
from probe.errors import NotRecorded, ProbeWarning, RecordingError, UnknownFamily
from probe.words import Token
from tests.attach.looking import SPECIAL, WORDS, checking
from tests.attach.model.unprepared import first_steps, run, together_and_alone, untouched, without_ftfy
from tests.fingerprint import hooks, modules_of
from tests.pipelines import parts, unet
from tests.pipelines import unlisted_films as films
from tests.pipelines.parts import Maker, options
from tests.pipelines.unlisted_films import UNLISTED

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",  # inside diffusers
    "ignore:In CPU autocast:UserWarning",  # Mochi's norms
    "ignore:Initializing zero-element tensors:UserWarning",  # the UNet of I2VGen-XL
)
PLACES = {  # family: sites, their kind, latent frames, grid, the first column of the prompt's words
    "allegro": (2, "cross", 3, (4, 6), 0),
    "i2vgen": (4, "cross", 3, (16, 24), 1),
    "mochi": (2, "joint", 2, (4, 6), 0),
    "sana_video": (2, "cross", 2, (8, 12), 1),
    "text_to_video": (4, "cross", 3, (16, 24), 1),
}
FORCING = "skyreels_v2.pipeline_skyreels_v2_diffusion_forcing"


@pytest.fixture(autouse=True)
def spared(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ftfy(monkeypatch, ("wan.pipeline_wan_i2v", FORCING))


def same(plain: Any, recorded: Any) -> bool:
    return np.array_equal(np.asarray(plain), np.asarray(recorded))


@pytest.mark.parametrize("name", UNLISTED)
def test_a_family_that_nobody_prepared_for(name: str):
    sites, kind, frames, grid, first = PLACES[name]
    trace, checks = untouched(UNLISTED[name])
    assert {(site.kind, site.frames) for site in trace.sites} == {(kind, frames)}
    assert (len(trace.sites), trace.sites[0].grid) == (sites, grid)
    assert max(checks.errors.values()) < 1e-6
    for node in trace.attention_nodes():
        assert np.allclose(node["attention"].sum("word"), 1, atol=1e-5)  # padding that takes no part is NaN, and 0 here
    spoken = [token for token in trace.tokens if token.special is None]
    assert [token.index for token in spoken] == list(range(first, first + 6))
    assert trace.node("/guidance").attrs["method"] == "classifier-free guidance"
    assert trace.node("/latents")["latents"].sizes["frame"] == frames


def changing(encoder: nn.Module, token: int) -> Any:
    """A hook that changes what an encoder gives for one token of its vocabulary."""
    ids: list[Tensor] = []
    first = encoder.register_forward_pre_hook(
        lambda module, args, kwargs: ids.append(kwargs["input_ids"] if "input_ids" in kwargs else args[0]),
        with_kwargs=True,
    )

    def change(module: nn.Module, args: Any, output: Any) -> None:
        there = (ids[-1] == token)[..., None]
        shift = torch.linspace(-3, 3, output[0].shape[-1])
        output.last_hidden_state = torch.where(there, output[0] + shift, output[0])
        if output.get("hidden_states") is not None:
            output.hidden_states = tuple(torch.where(there, layer + shift, layer) for layer in output.hidden_states)

    return first, encoder.register_forward_hook(change)


def seen(pipe: Any, maker: Maker) -> tuple[Token, list[tuple[Tensor, Pass]]]:
    """The token of the last word, and the keys of the first site in each pass of the first step."""
    with checking() as checks, probe.record(pipe, ["balloon"]) as recording:
        run(pipe, maker)
    path, _, rank = recording.trace.sites[0].path.partition("#")
    chosen = (each for each in checks.calls if (each[0].path, each[0].rank) == (path, int(rank or 1) - 1))
    (token,) = [token for token in recording.trace.tokens if token.text.casefold().strip("▁</w>") == "balloon"]
    return token, [(call.k, current) for call, current in chosen]


ALONE = [name for name in UNLISTED if name != "mochi"]  # it pools its text, which moves every column


@pytest.mark.filterwarnings("ignore:.*its layout was inferred:probe.errors.ProbeWarning")
@pytest.mark.parametrize("name", [*ALONE, "wan"])
def test_a_words_columns_are_the_keys_that_move_with_its_states(name: str):
    call = options(num_frames=5, max_sequence_length=512, output_type="latent")
    maker = UNLISTED[name] if name != "wan" else Maker(films.wan_of_a_picture, call, films.pictured)
    pipe: Any = maker.make()
    token, calls = seen(pipe, maker)
    handles = changing(pipe.text_encoder, token.id)
    _, changed = seen(pipe, maker)
    for handle in handles:
        handle.remove()
    for (before, current), (after, _) in zip(calls, changed, strict=True):
        moved = (before - after).abs().amax((1, 3)) > 1e-4  # [b, m]
        each = len(before) // len(current.rows)
        for i, row in enumerate(current.rows):
            expected = [token.index] if row.branch == "cond" else []
            assert moved[i * each : (i + 1) * each].any(0).nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("name", UNLISTED)
def test_without_guidance_the_first_step_of_cond_is_the_same(name: str):
    assert np.allclose(*first_steps(UNLISTED[name]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["allegro", "mochi", "sana_video", "text_to_video"])  # the others take one, or pad
def test_two_prompts_in_one_call_read_as_each_alone(name: str):
    for together, alone in together_and_alone(UNLISTED[name]):
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_a_cell_may_be_two_latent_frames():
    maker = Maker(films.cogvideox15, films.SHORT | {"num_frames": 13})
    pipe: Any = maker.make()
    plain = run(pipe, maker)
    with checking() as checks, probe.record(pipe, WORDS) as recording:
        assert same(plain, run(pipe, maker))
    assert {(site.kind, site.frames, site.grid) for site in recording.trace.sites} == {("joint", 2, (8, 12))}
    assert recording.trace.node("/latents")["latents"].sizes["frame"] == 4
    assert max(checks.errors.values()) < 1e-6


def test_the_keys_of_a_picture_are_asked_first_and_are_no_words():
    maker = Maker(films.wan_of_a_picture, options(num_frames=5, max_sequence_length=512), films.pictured)
    pipe: Any = maker.make()
    plain = run(pipe, maker)
    with checking() as checks, probe.record(pipe, ["*", *SPECIAL]) as recording:
        assert same(plain, run(pipe, maker))
    trace = recording.trace
    assert [site.path for site in trace.sites] == [f"transformer.blocks.{i}.attn2#2" for i in (0, 1)]
    assert np.allclose(trace.attention_nodes()[0]["attention"].sum("word"), 1, atol=1e-5)
    assert max(checks.errors.values()) < 1e-6
    assert len(trace.pictures) == 5  # of two processors, one for what is seen, the other makes them


def test_what_is_cut_out_of_the_text_moves_no_word():
    call = options(1.0, num_frames=5, max_sequence_length=32, output_type="latent", prompt_template=films.TEMPLATE)
    maker = Maker(films.hunyuan_of_a_picture, call | {"image_embed_interleave": 2}, films.pictured)
    pipe: Any = maker.make()
    read: list[Tensor] = []
    given: list[Tensor] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    heard = pipe.text_encoder.register_forward_hook(
        lambda module, args, kwargs, output: read.extend((kwargs["input_ids"], output.hidden_states[-3])),
        with_kwargs=True,
    )
    with probe.record(pipe, WORDS) as recording:
        run(pipe, maker)
    hook.remove()
    heard.remove()
    ids, states = read[0][0].tolist(), read[1][0]
    spoken = [token for token in recording.trace.tokens if token.special is None]
    start = next(i for i in range(len(ids)) if ids[i : i + 6] == [token.id for token in spoken])
    for i, token in enumerate(spoken):
        torch.testing.assert_close(given[0][0, token.index], states[start + i])


def test_frames_that_are_not_stepped_leave_the_guidance_measured():
    maker = Maker(films.ltx_of_a_picture, films.SHORT | {"num_frames": 9}, films.pictured)
    pipe: Any = maker.make()
    with probe.record(pipe, WORDS) as recording:
        run(pipe, maker)
    guidance, latents = recording.trace.node("/guidance"), recording.trace.node("/latents")
    assert {"cond_norm", "uncond_norm"} <= set(guidance)
    assert (latents["latents"].sizes["frame"], recording.trace.sites[0].frames) == (2, 3)
    update = latents["predicted"] - latents["predicted_uncond"]
    np.testing.assert_allclose(update, 4 * (latents["predicted_cond"] - latents["predicted_uncond"]), atol=0.05)


def test_packed_tokens_have_the_places_of_one_film_or_are_refused():
    pipe: Any = films.ltx_of_films()
    maker = Maker(films.ltx_of_films, films.SHORT | {"num_frames": 17})
    with probe.record(pipe, WORDS) as recording:
        run(pipe, maker)
    assert {(site.frames, site.grid) for site in recording.trace.sites} == {(5, (8, 12))}
    further = [parts.picture(i) for i in range(9)]
    with pytest.raises(UnknownFamily, match="those of further pictures among them"), probe.record(pipe, WORDS):
        run(pipe, maker, video=further, frame_index=8)


def test_copies_of_the_scheduler_step_themselves_and_no_trace_is_made_up():
    call = films.SHORT | {"num_frames": 9, "base_num_frames": 9, "ar_step": 1, "causal_block_size": 1}
    maker = Maker(films.skyreels_forcing, call)
    pipe: Any = maker.make()
    plain = run(pipe, maker)
    with pytest.warns(ProbeWarning), probe.record(pipe, ["cat"]) as recording:
        assert same(plain, run(pipe, maker))
    with pytest.raises(NotRecorded, match=r"pipe\.scheduler made no step.*steps copies of its scheduler"):
        _ = recording.trace


def test_a_scheduler_that_steps_twice_after_one_pass_is_refused():
    pipe: Any = parts.assembled(unet.StableDiffusionPipeline, **unet.sd_parts())

    def again(pipe: Any, step: int, time: Any, given: dict[str, Any]) -> dict[str, Any]:
        pipe.scheduler.step(given["latents"], time, given["latents"])
        return given

    with pytest.raises(RecordingError, match="more than once after a pass"), probe.record(pipe, ["cat"]):
        run(pipe, Maker(films.mochi, options()), callback_on_step_end=again)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # inside diffusers
def test_of_sounds_nothing_is_recorded():
    pipe: Any = films.sound()
    before = hooks(*modules_of(pipe))  # its autoencoder has some of its own
    call = {"prompt": parts.PROMPT, "num_inference_steps": 2, "audio_end_in_s": 4.0, "output_type": "latent"}
    with pytest.raises(UnknownFamily, match="The moments of a sound have no rows and columns"), probe.record(pipe):
        run(pipe, Maker(films.sound, call))
    assert hooks(*modules_of(pipe)) == before
