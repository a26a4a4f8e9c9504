"""Another text is encoded as the run's own prompt was, with all that its call was told."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import probe
from probe.attach.asked.inquiry import Answer, Inquiry, Scene
from probe.attach.text.encode import encode
from probe.errors import BadInput
from probe.nurse import PromptSchedule
from tests import pipelines

OTHER = "two green birds"
ADAPTED = ("lora", "adapter", "pag", "fused", "img2img", "inpaint", "wan22", "sd2", "sd35")  # encode as others do
MUTE = ("kandinsky22", "hidream", "hunyuan_image", "hunyuan_video15")  # no text, or only recorded
SPEAKING = [family for family in pipelines.FAMILIES if not family.endswith(ADAPTED) and family not in MUTE]
UNFIT = {"z_image": "not given its text states as one tensor", "qwen_image": "same length", "lumina2": "same length"}
TOLD = {
    "sdxl": {"clip_skip": 1, "prompt_2": "in oil"},
    "sd3": {"max_sequence_length": 40, "prompt_3": "in oil"},
    "flux1": {"max_sequence_length": 24},
    "flux2": {"text_encoder_out_layers": (0, 2, 4)},
    "sana": {"complex_human_instruction": ["Say it well:"], "max_sequence_length": 20},
    "lumina2": {"system_prompt": "Draw."},
    "hunyuan_video": {"prompt_template": {"template": "Film: {}", "crop_start": 2}, "max_sequence_length": 28},
    "cogvideox": {"max_sequence_length": 24},
}


class Silent(Answer):
    """Finds nothing out."""

    def due(self, step):
        return False

    def read(self, module, given, rows, step):
        raise AssertionError(step)

    def nodes(self):
        return {}


class Look(Inquiry):
    """Keeps the scene that an inquiry is given."""

    def begin(self, scene):
        scenes.append(scene)
        return Silent()


scenes: list[Scene] = []


@contextmanager
def heard(pipe):
    """The rows of text states that the denoiser is given."""
    found: list[torch.Tensor] = []

    def hear(module, args, kwargs):
        states = kwargs.get("encoder_hidden_states")
        found.extend(args[2] if states is None else states)

    module = getattr(pipe, "unet", None) or pipe.transformer
    handle = module.register_forward_pre_hook(hear, with_kwargs=True)
    yield found
    handle.remove()


def run(family: str, **told) -> list[torch.Tensor]:
    """The text states of a short run."""
    pipe = pipelines.pipeline(family)
    with heard(pipe) as found:
        pipelines.run(pipe, family, num_inference_steps=1, output_type="latent", **told)
    return found


def check_same(family: str, **told) -> None:
    with probe.record(pipelines.pipeline(family), words=[], explain=Look()):
        own = run(family, **told)
    scene = scenes.pop()
    for text, given in {pipelines.PROMPT: own, OTHER: run(family, **{**told, "prompt": OTHER})}.items():
        found = encode(scene, text, like=scene.prompts[0]).states
        assert any(row.shape == found.shape and torch.equal(row, found) for row in given)


@pytest.mark.parametrize("family", SPEAKING)
def test_a_text_is_encoded_as_the_pipeline_does_to_the_bit(family):
    check_same(family)


@pytest.mark.parametrize("family", TOLD)
def test_what_the_call_was_told_counts_for_every_text(family):
    check_same(family, **TOLD[family])


@pytest.mark.parametrize(
    "family", [family for family in SPEAKING if family not in UNFIT and "controlnet" not in family]
)
def test_another_text_for_the_whole_run_gives_that_text_s_picture(family):
    """States, what is pooled of them, and masks: all of it takes the prompt's place."""
    pipe, other = pipelines.pipeline(family), PromptSchedule(prompts={0: OTHER})
    with probe.record(pipe, words=[], interventions=[other]):
        found = pipelines.run(pipe, family, output_type="latent")
    expected = pipelines.run(pipe, family, prompt=OTHER, output_type="latent")
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - pipelines.run(pipe, family, output_type="latent")).max() > 1e-3


@pytest.mark.parametrize("family", UNFIT)
def test_a_text_that_cannot_take_the_prompt_s_place_is_an_error(family):
    other = PromptSchedule(prompts={0: "a dog"})
    with pytest.raises(BadInput, match=UNFIT[family]), probe.record(pipelines.pipeline(family), interventions=[other]):
        pipelines.run(pipelines.pipeline(family), family)


def test_a_word_is_left_out_of_its_own_text_alone():
    """The second prompt stays what it was."""
    with probe.record(pipelines.pipeline("sdxl"), words=[], explain=Look()):
        run("sdxl", prompt=["a dog", pipelines.PROMPT], prompt_2=["in ink", "in oil"])
    scene = scenes.pop()
    found = encode(scene, "a red balloon", like=scene.prompts[1]).states
    assert any(torch.equal(row, found) for row in run("sdxl", prompt="a red balloon", prompt_2="in oil"))
