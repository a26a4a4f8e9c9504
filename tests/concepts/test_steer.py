"""Steering: what is read is the hand-computed sum, where and when it was asked for; what is given, likewise."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import probe
from probe.attach.recording import Recording
from probe.concepts.concept import Concept
from probe.concepts.direction import Direction, direction
from probe.concepts.pseudo_token import encoders
from probe.concepts.steer import Steer, SteerOutputs
from probe.errors import BadInput, BadPrompt, MissingReadings, NoMatch, NoSuchWord, NotRecorded
from probe.nurse import ComposableDiffusion, PromptSchedule
from tests import pipelines
from tests.factories import make_trace
from tests.fingerprint import fingerprint
from tests.nurse.drawing import FEW, PROMPT, SIZES, draw, drawn, pipe

OTHER, PLAIN, RED = "a blue bird on a bench", "a balloon", "a red balloon"
MIDDLE = "unet.mid_block"
ON: dict[str, Any] = {"guidance_scale": 5.0}


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux1"])
def test_from_the_prompt_itself_strength_one_is_the_other_prompt_and_zero_is_plain(family):
    steered = draw(family, PROMPT, Steer(towards=OTHER, away=PROMPT))
    np.testing.assert_allclose(steered, draw(family, OTHER), atol=6e-5)  # 1e-5 of the largest
    assert np.array_equal(draw(family, PROMPT, Steer(towards=OTHER, strength=0.0)), draw(family))


def embedded(text: str) -> tuple[Tensor, Tensor]:
    """What Stable Diffusion 1 makes of a text, and of none."""
    with torch.no_grad():
        return pipe("sd1").encode_prompt(text, "cpu", 1, True)


def by_hand(states: Tensor, **call: Any) -> np.ndarray:
    """The picture of these text states."""
    given = {"prompt": None, "prompt_embeds": states, "negative_prompt_embeds": embedded("")[0]}
    generator = torch.Generator().manual_seed(3)
    return np.asarray(pipe("sd1")(**SIZES | FEW | call | given, generator=generator)[0])


def shifted(strength: float, towards: Tensor | None = None) -> Tensor:
    there = embedded(RED)[0] if towards is None else towards
    return embedded(PROMPT)[0] + strength * (there - embedded(PLAIN)[0])


@pytest.mark.parametrize("call", [ON, {"guidance_scale": 1.0}], ids=["guided", "unguided"])
@pytest.mark.parametrize("strength", [0.5, -2.0])
def test_it_is_the_picture_of_the_altered_embeddings(strength, call):
    steered = draw("sd1", PROMPT, Steer(towards=RED, away=PLAIN, strength=strength), **call)
    np.testing.assert_allclose(steered, by_hand(shifted(strength), **call), atol=2e-5)
    assert np.abs(steered - draw("sd1", **call)).max() > 1e-3


def concept_of(coefficients: dict[str, float]) -> Concept:
    norms = {each.name: float(each.table.weight.detach().norm(dim=1).mean()) for each in encoders(pipe("sd1"))}
    return Concept("a pet", tuple(coefficients), tuple(coefficients.values()), norms)


def test_a_concept_leads_where_its_own_vector_does():
    concept = concept_of({"cat": 2.0, "dog": 1.0})
    with concept.spoken(pipe("sd1")) as said:
        there = embedded(said)[0]
    steered, recording = drawn("sd1", PROMPT, Steer(towards=concept, away=PLAIN, strength=0.5), **ON)
    np.testing.assert_allclose(steered, by_hand(shifted(0.5, there), **ON), atol=2e-5)
    asked = recording.trace.extra["interventions"][0]
    assert asked["towards"] == concept.data() and asked["towards"]["words"] == {"cat": 2.0, "dog": 1.0}
    again = Steer(**{name: asked[name] for name in ("towards", "away", "strength")})
    assert np.array_equal(draw("sd1", PROMPT, again, **ON), steered)
    with pytest.raises(ValueError, match=r"this is not a concept \(KeyError\('words'\)\); expected concept, template"):
        Steer(towards={"concept": "a pet"})


def test_only_the_chosen_steps_are_steered():
    late = draw("sd1", PROMPT, Steer(towards=OTHER, away=PROMPT, steps=(1, 2)))
    np.testing.assert_allclose(late, draw("sd1", PROMPT, PromptSchedule(prompts={1: OTHER})), atol=2e-5)
    assert np.abs(late - draw("sd1", OTHER)).max() > 1e-3


@contextmanager
def heard() -> Iterator[dict[str, list[Tensor]]]:
    """What each cross-attention is given in the block, call by call, seen from outside."""
    found: dict[str, list[Tensor]] = {}
    hooks = []
    for path, module in pipe("sd1").unet.named_modules():
        if path.endswith("attn2"):

            def see(module: Any, args: Any, kwargs: Any, path: str = path) -> None:
                found.setdefault(path, []).append(kwargs["encoder_hidden_states"])

            hooks.append(module.register_forward_pre_hook(see, with_kwargs=True))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def listened(*items: probe.nurse.PromptSchedule | Steer) -> dict[str, list[Tensor]]:
    with probe.record(pipe("sd1"), words=[], interventions=items), heard() as found:
        pipe("sd1")(PROMPT, **SIZES | FEW | ON, generator=torch.Generator().manual_seed(3))
    return found


def test_only_the_chosen_sites_read_it_and_only_in_rows_of_the_prompt():
    found = listened(Steer(towards=RED, away=PLAIN, strength=0.5, sites=("mid_block",), steps=(0, 2)))
    plain, other = torch.cat([embedded("")[0], embedded(PROMPT)[0]]), shifted(0.5)
    assert sum("mid_block" in path for path in found) == 1 < len(found)
    for path, calls in found.items():
        for step, states in enumerate(calls):
            torch.testing.assert_close(states[:1], plain[:1], rtol=0, atol=0)
            steered = "mid_block" in path and step != 1
            torch.testing.assert_close(states[1:], other if steered else plain[1:], rtol=0, atol=1e-5 * steered)


def test_all_sites_by_name_are_all_sites_and_one_is_less():
    every = draw("sd1", PROMPT, Steer(towards=OTHER))
    assert np.array_equal(draw("sd1", PROMPT, Steer(towards=OTHER, sites=("attn2",))), every)
    one = draw("sd1", PROMPT, Steer(towards=OTHER, sites=("*mid_block*attn2",)))
    assert not np.array_equal(one, draw("sd1")) and not np.array_equal(one, every)
    scheduled = draw("sd1", PROMPT, PromptSchedule(prompts={0: OTHER}, sites=("*mid_block*attn2",)))
    steered = draw("sd1", PROMPT, Steer(towards=OTHER, away=PROMPT, sites=("mid",)))
    np.testing.assert_allclose(steered, scheduled, atol=2e-5)


def test_prompts_of_a_batch_are_steered_alike():
    both = draw("sd1", [PROMPT, OTHER], Steer(towards=RED, away=PLAIN), **ON)
    for picture, text in zip(both, (PROMPT, OTHER), strict=True):
        alone = draw("sd1", text, Steer(towards=RED, away=PLAIN), **ON)[0]
        np.testing.assert_allclose(picture, alone, atol=1e-4)


def test_nothing_is_left_behind():
    recorded = direction([runs("sd1", RED, MIDDLE)], [runs("sd1", PLAIN, MIDDLE)])
    draw("sd1")
    before = fingerprint(pipe("sd1"))
    items = (Steer(towards=concept_of({"cat": 1.0}), sites=("attn2",)), SteerOutputs(direction=recorded))
    draw("sd1", PROMPT, *items)
    with pytest.raises(BadInput, match="has the steps 0 to 2"):
        draw("sd1", PROMPT, Steer(towards=RED, steps=(3,), sites=("attn2",)), items[1])
    assert fingerprint(pipe("sd1")) == before


@pytest.mark.parametrize("place", ["_at_site", "_change"])
def test_an_interrupt_leaves_nothing_behind_either(place: str, monkeypatch: pytest.MonkeyPatch):
    found = toward_red("sd1", MIDDLE)
    draw("sd1")
    before = fingerprint(pipe("sd1"))

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recording, place, stop)
        with pytest.raises(KeyboardInterrupt):
            draw("sd1", PROMPT, Steer(towards=RED, sites=("attn2",)), SteerOutputs(direction=found))
    assert fingerprint(pipe("sd1")) == before


def test_where_and_when_there_is_nothing_to_steer_says_so():
    with pytest.raises(BadInput, match=r"Steer has steps=\(7,\), and this run has the steps 0 to 2"):
        draw("sd1", PROMPT, Steer(towards=RED, steps=(7,)))
    for family, sites in (("sd1", ("attn1",)), ("sd1", ("nowhere",)), ("sd3", ("transformer_blocks.0",))):
        with pytest.raises(NoMatch, match=r"Steer: no attention that matches sites=.*name cross-attentions of a U-Net"):
            draw(family, PROMPT, Steer(towards=RED, sites=sites))
    with pytest.raises(BadInput, match=r"was encoded to \d+ states and 'a cat' to \d+: .* texts with as many tokens"):
        draw("qwen_image", PROMPT, Steer(towards=RED, away="a cat"))
    with pytest.raises(NoSuchWord, match="of this pipeline, expected 1"):
        draw("sd1", PROMPT, Steer(towards=concept_of({"xylophonist": 1.0})))
    with pytest.raises(BadInput, match="ComposableDiffusion adds up predictions, which are of no site"):
        draw("sd1", PROMPT, ComposableDiffusion(prompts=(RED,), sites=("attn2",)))
    with pytest.raises(BadPrompt, match="cannot be expressed by the tokenizer"):
        draw("sd1", PROMPT, Steer(towards="   "))


def runs(family: str, text: str, modules: str | list[str], **call: Any) -> probe.Trace:
    with probe.record(pipe(family), words=[], modules=modules, branches="*") as recording:
        maker = pipelines.FAMILIES[family]
        overrides = SIZES | FEW | call | {"prompt": text}
        pipe(family)(**maker.call | overrides, generator=torch.Generator().manual_seed(3))
    return recording.trace


def test_a_direction_is_the_difference_of_the_means_of_both_sides():
    reds, plains = ([runs("sd1", text, MIDDLE)] for text in (RED, PLAIN))
    whole = [runs("sd1", text, f"{MIDDLE}:whole").node(f"modules/{MIDDLE}")["output"] for text in (RED, PLAIN)]
    red, plain = (each.sel(branch="cond").values.astype(np.float64).mean((0, 1, 3, 4)) for each in whole)
    found = direction(reds, plains)
    np.testing.assert_allclose(found.vectors[MIDDLE], red - plain, atol=1e-6)
    assert found.norms[MIDDLE] == pytest.approx(np.linalg.norm(red - plain), rel=1e-4)
    assert repr(found).startswith(f"Direction({MIDDLE} [{len(red)}] ")
    twice = direction([*reds, *plains], plains)
    np.testing.assert_allclose(twice.vectors[MIDDLE], (red - plain) / 2, atol=1e-6)


def toward_red(family: str, *modules: str) -> Direction:
    return direction(*([runs(family, text, list(modules))] for text in (RED, PLAIN)))


@contextmanager
def adding(module: Any, vector: Tensor, steps: Sequence[int], rows: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A hook of our own, that adds a vector to what a module gives at some of its calls."""
    calls = iter(range(1000))

    def add(module: Any, args: Any, output: Tensor) -> Tensor:
        if next(calls) in steps:
            output = output.clone()
            rows(output).add_(vector[:, None, None])
        return output

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def test_outputs_move_by_the_direction_in_rows_of_the_prompt_at_the_chosen_steps():
    found = toward_red("sd1", MIDDLE)
    item = SteerOutputs(direction=found, strength=3.0, steps=(0, 2))
    steered, recording = drawn("sd1", [PROMPT, OTHER], item, **ON)
    vector = torch.from_numpy(3.0 * found.vectors[MIDDLE])
    with adding(pipe("sd1").unet.mid_block, vector, (0, 2), lambda output: output[2:]):
        by_hand = draw("sd1", [PROMPT, OTHER], **ON)
    np.testing.assert_allclose(steered, by_hand, atol=1e-6)
    assert np.abs(steered - draw("sd1", [PROMPT, OTHER], **ON)).max() > 1e-3
    assert recording.trace.extra["interventions"][0]["direction"]["norms"] == pytest.approx(found.norms)
    assert np.array_equal(draw("sd1", PROMPT, SteerOutputs(direction=found, strength=0.0)), draw("sd1"))


def test_the_record_holds_what_the_model_went_on_with():
    found = toward_red("sd1", MIDDLE)
    plain = runs("sd1", PROMPT, MIDDLE, **ON).node(f"modules/{MIDDLE}")["mean"]
    item = SteerOutputs(direction=found)
    with probe.record(
        pipe("sd1"), words=[], modules=MIDDLE, branches=("cond", "uncond"), interventions=[item]
    ) as recording:
        pipe("sd1")(PROMPT, **SIZES | FEW | ON, generator=torch.Generator().manual_seed(3))
    moved = recording.trace.node(f"modules/{MIDDLE}")["mean"] - plain
    np.testing.assert_allclose(moved.sel(step=0, branch="cond", image=0), found.vectors[MIDDLE], atol=1e-5)
    np.testing.assert_allclose(moved.sel(step=0, branch="uncond", image=0), 0, atol=1e-6)


@pytest.mark.parametrize("family", ["sd3", "flux1"])
def test_text_and_picture_of_a_joint_block_are_moved_apart(family):
    found = toward_red(family, "transformer_blocks.0")
    words, cells = "transformer.transformer_blocks.0", "transformer.transformer_blocks.0-1"
    assert set(found.vectors) == {words, cells}
    plain = runs(family, PROMPT, "transformer_blocks.0")
    item = SteerOutputs(direction=found, strength=2.0, sites=("blocks.0-1",))
    with probe.record(pipe(family), words=[], modules="transformer_blocks.0", interventions=[item]) as recording:
        maker = pipelines.FAMILIES[family]
        pipe(family)(**maker.call | SIZES | FEW | {"prompt": PROMPT}, generator=torch.Generator().manual_seed(3))
    for name, share in ((words, 0.0), (cells, 2.0)):
        moved = (recording.trace.node(f"modules/{name}")["mean"] - plain.node(f"modules/{name}")["mean"]).sel(step=0)
        np.testing.assert_allclose(moved.sel(branch="cond", image=0), share * found.vectors[name], atol=1e-5)


def test_a_direction_that_does_not_fit_says_so():
    found = toward_red("sd1", MIDDLE)
    with pytest.raises(NoMatch, match="names no module of this direction; it has unet.mid_block"):
        draw("sd1", PROMPT, SteerOutputs(direction=found, sites=("up_blocks",)))
    with pytest.raises(NoMatch, match="names no module of the denoiser; there are"):
        draw("sd3", PROMPT, SteerOutputs(direction=found))
    with pytest.raises(BadInput, match=r"of unet.mid_block has 7 channels, and here it gives \d+: record"):
        draw("sd1", PROMPT, SteerOutputs(direction=Direction({MIDDLE: np.zeros(7, np.float32)})))
    with pytest.raises(BadInput, match="cannot tell the runs of a module apart"):
        draw("sd1", PROMPT, SteerOutputs(direction=Direction({f"{MIDDLE}-run2": np.zeros(7, np.float32)})))
    with pytest.raises(MissingReadings, match="found no tensor with a row for each picture in unet.mid_block-1"):
        draw("sd1", PROMPT, SteerOutputs(direction=Direction({f"{MIDDLE}-1": np.zeros(7, np.float32)})))
    with pytest.raises(NotRecorded, match=r"holds no outputs of modules for its prompt; record some: probe.record"):
        direction([make_trace()], [make_trace()])
    with pytest.raises(BadInput, match="got 0 and 1 traces"):
        direction([make_trace()], [])
