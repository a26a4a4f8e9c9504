"""Patching: identities along whole runs, live and recorded, and the formula against explicit matrices."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.errors import BadInput, NoMatch, NoSuchWord, NotRecorded
from probe.intervention import AttentionIntervention
from probe.nurse import PatchAttention, PatchModules, PromptToPrompt
from probe.study.nursing import prompt_methods
from probe.trace import Trace
from tests.fingerprint import fingerprint
from tests.nurse.drawing import PROMPT, draw, drawn, pipe
from tests.nurse.test_edits import DOG, seen

PROJECTED = ("*.to_q:whole", "*.to_k:whole", "*.to_v:whole")
WORDS = {"dog": "cat"}


@cache
def run(
    prompt: str | tuple[str, ...] = PROMPT, *, family: str = "sd1", modules: tuple[str, ...] = PROJECTED, **options: Any
) -> tuple[np.ndarray, Trace]:
    """Latents, and a trace of what modules gave: what attention projected."""
    with probe.record(pipe(family), words=[], keep="maps", modules=modules) as recording:
        found = draw(family, list(prompt) if isinstance(prompt, tuple) else prompt, **options)
    return found, recording.trace


def test_a_word_s_part_is_exchanged():
    view, P, Q = seen(DOG)
    theirs = torch.randn(2, 77, 5, generator=torch.Generator().manual_seed(4)).double()
    view = replace(view, source_values=lambda: theirs)
    own, other = list(view.columns("dog")), list(view.source_columns("cat"))
    expected = P @ view.values - P[..., own] @ view.values[:, own] + Q[..., other] @ theirs[:, other]
    torch.testing.assert_close(PatchAttention(words=WORDS).change(view), expected)
    torch.testing.assert_close(PatchAttention().change(view), Q @ theirs)


BOTH = [PatchAttention(kinds=("cross", "self", "joint")), PatchAttention(words={"cat": "cat", "red": "red"})]


@pytest.mark.parametrize("item", BOTH)
@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux1"])
def test_a_run_into_itself_is_itself_to_the_bit(family: str, item: PatchAttention):
    plain, before = draw(family, [PROMPT, PROMPT]), fingerprint(pipe(family))["hooks"]
    assert np.array_equal(draw(family, [PROMPT, PROMPT], item), plain)
    assert fingerprint(pipe(family))["hooks"] == before


@pytest.mark.parametrize("words", [{}, {"cat": "cat"}])
def test_a_recorded_run_into_itself_is_itself_to_the_bit(words: dict[str, str]):
    plain, trace = run()
    assert np.array_equal(draw("sd1", PROMPT, PatchAttention(words=words, recorded=trace)), plain)


def test_all_that_reads_the_text_makes_the_other_picture():
    both = draw("sd1", [PROMPT, DOG], PatchAttention())
    assert np.array_equal(both[1], both[0]) and np.array_equal(both, np.stack([draw("sd1", [PROMPT, DOG])[0]] * 2))
    plain, trace = run()
    assert np.array_equal(draw("sd1", DOG, PatchAttention(recorded=trace)), plain)


@pytest.mark.parametrize(
    "item", [PatchAttention(words=WORDS, steps=(0, 2)), PatchAttention(kinds=("self",), sites=("*up_blocks*",))]
)
def test_a_recorded_run_does_what_a_live_one_does(item: PatchAttention):
    live = draw("sd1", [PROMPT, DOG], item)[1]
    recorded = draw("sd1", DOG, type(item)(**item.model_dump(include=item.model_fields_set), recorded=run()[1]))[0]
    np.testing.assert_allclose(recorded, live, atol=1e-4)  # batches of two and of four differ in rounding
    assert np.abs(live - draw("sd1", [PROMPT, DOG])[1]).max() > 1e-4


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A recorded run that was saved and opened."""
    return probe.open(run()[1].save(tmp_path_factory.mktemp("stored") / "source"))


@pytest.mark.parametrize("mode", ["replace", "refine"])
def test_prompt_to_prompt_from_a_recorded_run(mode: Any, stored: Trace, tmp_path: Path):
    live = draw("sd1", [PROMPT, DOG], PromptToPrompt(mode=mode, factors={"red": 2.0}))[1]
    found, recording = drawn("sd1", DOG, PromptToPrompt(mode=mode, factors={"red": 2.0}, recorded=stored))
    np.testing.assert_allclose(found[0], live, atol=1e-4)
    assert np.abs(live - draw("sd1", [PROMPT, DOG], PromptToPrompt(mode=mode, cross=0, own=0))[1]).max() > 1e-3
    told = recording.trace.extra["interventions"][0]
    assert told["recorded"]["prompts"] == [PROMPT] and told["source"] is None
    recording.trace.save(tmp_path / "edited")


def bad_patch(**options: Any) -> AttentionIntervention:
    return PatchAttention(recorded=run()[1], **options)


BAD = {
    "unknown word": (lambda: PatchAttention(words={"dog": "zebra"}), [PROMPT, DOG], NoSuchWord, "'zebra' is not in"),
    "own word": (lambda: bad_patch(words={"zebra": "cat"}), DOG, NoSuchWord, "'zebra' is not in the prompt"),
    "strange step": (
        lambda: bad_patch(steps=(1, 3)),
        DOG,
        BadInput,
        r"steps=\(1, 3\), and this run has the steps 0 to 2",
    ),
    "two sources": (lambda: bad_patch(source=0), DOG, BadInput, "has two sources: source=0 and a recorded run"),
    "no source": (lambda: PatchAttention(source=None), DOG, BadInput, r"or give recorded=trace"),
    "other prompts": (lambda: PatchAttention(recorded=run((PROMPT, DOG))[1]), DOG, BadInput, "has 2 prompts; record"),
    "not held": (
        lambda: PatchAttention(recorded=drawn("sd1", PROMPT)[1].trace),
        DOG,
        NotRecorded,
        r'not hold all that unet.*to_q gave at step 0 by itself; record it with probe.record\(pipe, keep="maps"',
    ),
    "fewer steps": (
        lambda: PatchAttention(recorded=run(num_inference_steps=2)[1]),
        DOG,
        NotRecorded,
        "does not hold all that unet.* gave at step 2 by itself; record it",
    ),
    "other size": (
        lambda: PatchAttention(recorded=run(width=32)[1]),
        DOG,
        BadInput,
        "both must be of one model and one size",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_says_so(name: str):
    item, text, error, says = BAD[name]
    before = fingerprint(pipe("sd1"))["hooks"]
    with pytest.raises(error, match=says):
        draw("sd1", text, item())
    assert fingerprint(pipe("sd1"))["hooks"] == before


def test_a_recorded_joint_attention_is_turned_after_its_projection():
    with pytest.raises(BadInput, match="normalises or rotates its queries after the projection, so PatchAtt"):
        draw("sd3", DOG, bad_patch())


def test_what_a_prompt_alone_can_set_up_has_no_source():
    assert "PatchAttention" not in prompt_methods() and "StructuredDiffusion" in prompt_methods()


MODULES = {"sd1": "*.attn2:whole", "sdxl": "conv_out:whole", "sd3": "proj_out:whole", "flux1": "proj_out:whole"}


@pytest.mark.parametrize("family", MODULES)
def test_all_that_decides_put_into_another_run_is_the_first_one_to_the_bit(family: str):
    before = fingerprint(pipe(family))["hooks"]
    plain, trace = run(family=family, modules=(MODULES[family],))
    assert np.array_equal(draw(family, PROMPT, PatchModules(recorded=trace)), plain)
    assert np.array_equal(draw(family, DOG, PatchModules(recorded=trace)), plain)
    assert not np.array_equal(draw(family, DOG), plain)
    assert fingerprint(pipe(family))["hooks"] == before


def test_modules_and_steps_can_be_chosen():
    trace = run(modules=("mid_block:whole", "conv_in:whole"))[1]
    item = PatchModules(recorded=trace, sites=("mid_block",), steps=(1,))
    assert item.modules == ("unet.mid_block",)
    with probe.record(pipe("sd1"), words=[], keep="maps", modules=("mid_block:whole",), interventions=[item]) as live:
        draw("sd1", DOG)
    found, theirs = (each.node("modules/unet.mid_block")["output"] for each in (live.trace, trace))
    plain = run(DOG, modules=("mid_block:whole",))[1].node("modules/unet.mid_block")["output"]
    assert np.array_equal(found.sel(step=1), theirs.sel(step=1)) and np.array_equal(
        found.sel(step=0), plain.sel(step=0)
    )
    assert not np.array_equal(found.sel(step=2), theirs.sel(step=2))


def test_modules_that_do_not_fit_say_so():
    trace = run(modules=("mid_block:whole",), width=32)[1]
    with pytest.raises(NoMatch, match="names no module that the recorded run holds whole; it holds unet.mid_block"):
        draw("sd1", DOG, PatchModules(recorded=trace, sites=("up_blocks",)))
    with pytest.raises(BadInput, match="unet.mid_block gave .* in the recorded run, and gives .* of one model and one"):
        draw("sd1", DOG, PatchModules(recorded=trace))
    with pytest.raises(NoMatch, match="it holds none; record some: modules="):
        draw("sd1", DOG, PatchModules(recorded=drawn("sd1", PROMPT)[1].trace))
