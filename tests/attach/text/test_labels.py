"""Labels in the awkward cases: which branch, picture, prompt and word each reading belongs to."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probe
import probe.show
from probe.attach.model.families import FAMILIES
from probe.attach.text.gathering import MASKS, check_attended
from probe.errors import NoMatch, NoSuchWord, ProbeWarning, RecordingError
from probe.nurse.diagnose import find_cast
from probe.nurse.diagnosis_signals import Cast
from probe.readings import content_words
from probe.trace import Trace
from probe.words import Prompt, Token
from tests import pipelines
from tests.attach.looking import SPECIAL, Checks, checking

CAT, BALLOON = "a cat", "a dog and a red balloon"


def record(family: str, *, words: Any = None, branches: Any = ("cond",), **call: Any) -> tuple[Trace, Checks]:
    """Two steps of a family, and its calls of the first step."""
    pipe = pipelines.pipeline(family)
    with checking() as checks, probe.record(pipe, words, branches=branches) as recording:
        pipelines.run(pipe, family, **call)
    assert max(checks.errors.values()) < 1e-6
    return recording.trace, checks


def passes(checks: Checks) -> list[tuple[str, ...]]:
    """The branches of the rows of each pass of the first step."""
    found = {id(current): tuple(row.branch for row in current.rows) for _, current in checks.calls}
    return list(found.values())


def readings(trace: Trace, word: str, *, image: int = 0, branch: str = "cond", step: int = 0) -> np.ndarray:
    """[site, cells] of a word, sites of all grids."""
    nodes = trace.attention_nodes()
    parts = [d["attention"].sel(word=word, image=image, branch=branch, step=step).values for d in nodes]
    return np.concatenate([part.reshape(-1) for part in parts])


ORDERS = {
    "sd1": [("uncond", "cond")],
    "sdxl": [("uncond", "cond")],
    "sd3": [("uncond", "cond")],
    "pixart_sigma": [("uncond", "cond")],
    "sana": [("uncond", "cond")],
    "hunyuan_dit": [("uncond", "cond")],
    "aura_flow": [("uncond", "cond")],
    "z_image": [("cond", "uncond")],
    "flux1": [("cond",)],
    "flux2": [("cond",)],
    "flux2_klein": [("cond",), ("uncond",)],
    "qwen_image": [("cond",), ("negative",)],
    "cogview4": [("cond",), ("uncond",)],
    "lumina2": [("cond",), ("uncond",)],
    "chroma": [("cond",), ("uncond",)],
    "wan": [("cond",), ("uncond",)],
    "cogvideox": [("uncond", "cond")],
    "animate_diff": [("uncond", "cond")],
    "hunyuan_video": [("cond",)],
    "instruct_pix2pix": [("cond", "uncond", "uncond#2")],
    "sdxl_instruct_pix2pix": [("cond", "uncond", "uncond#2")],
    "sd1_pag": [("uncond", "cond", "cond#2")],
    "sd3_pag": [("uncond", "cond", "cond#2")],
}


@pytest.mark.parametrize("family", ORDERS)
def test_branches_in_the_order_of_each_pipeline(family: str):
    assert passes(record(family)[1]) == ORDERS[family]


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "lumina2", "chroma", "cogview4", "sana", "sd1_pag"])
def test_without_guidance_there_is_one_branch(family: str):
    trace, checks = record(family, guidance_scale=1.0 if family != "chroma" else 0.0)
    assert passes(checks) == ([("cond", "cond#2")] if family == "sd1_pag" else [("cond",)])
    assert "difference_norm" not in trace.node("/guidance")


NEGATIVE = {"flux1": {"true_cfg_scale": 3.0}, "qwen_image": {}, "sd3": {}, "z_image": {}, "lumina2": {}, "sana": {}}
NEGATIVE |= {"sd1": {}, "sdxl": {}, "hunyuan_dit": {}, "chroma": {}, "pixart_sigma": {}}


@pytest.mark.parametrize("family", NEGATIVE)
def test_the_words_of_the_negative_prompt(family: str):
    trace, checks = record(family, branches=("cond", "negative"), negative_prompt="a dog", **NEGATIVE[family])
    assert {branch for rows in passes(checks) for branch in rows} == {"cond", "negative"}
    assert "dog" in trace.labels
    assert trace.run.negative_prompts == ("a dog",)
    assert np.isfinite(readings(trace, "dog", branch="negative")).all()
    assert np.isnan(readings(trace, "dog")).all()
    assert np.isnan(readings(trace, "cat", branch="negative")).all()
    assert "difference_norm" in trace.node("/guidance")


@pytest.mark.parametrize("family", ["sd1", "z_image", "chroma", "flux1"])
def test_a_negative_prompt_equal_to_the_prompt(family: str):
    options = {"true_cfg_scale": 3.0} if family == "flux1" else {}
    _, checks = record(family, prompt=CAT, negative_prompt=CAT, **options)
    order = {"sd1": [("negative", "cond")], "z_image": [("cond", "negative")]}
    assert passes(checks) == order.get(family, [("cond",), ("negative",)])


def test_the_empty_branch_has_no_words():
    trace, _ = record("sd1", branches=("cond", "uncond"))
    assert np.isnan(readings(trace, "cat", branch="uncond")).all()
    parts = [readings(trace, label, branch="uncond") for label in SPECIAL]
    assert np.abs(sum(parts) - 1).max() < 1e-5


def test_zeros_instead_of_an_empty_prompt_have_no_tokens():
    trace, checks = record("sdxl", branches=("cond", "uncond"))
    assert passes(checks) == [("uncond", "cond")]
    assert [node["branch"].values.tolist() for node in trace.attention_nodes()] == [["cond"], ["cond"]]


MISMATCHED = ("hunyuan_dit", "lumina2")  # diffusers 0.42 gives the second picture of a prompt another prompt's mask
SHAPES = {"hunyuan_dit": (4, 8, 12), "lumina2": (4, 8, 12), "flux2": (16, 8, 12)}


def packed(family: str, latents: torch.Tensor) -> torch.Tensor:
    """Noise as the pipeline wants it."""
    return (
        pipelines.pipeline(family)._pack_latents(latents, *latents.shape) if family in ("flux1", "chroma") else latents
    )


BATCHES = (
    "sd1",
    "sdxl",
    "sd3",
    "flux1",
    "flux2",
    "pixart_sigma",
    "hunyuan_dit",
    "cogview4",
    "lumina2",
    "z_image",
    "chroma",
)


@pytest.mark.parametrize("family", BATCHES)
def test_several_prompts_and_pictures_as_if_each_were_alone(family: str):
    noise = torch.randn(4, *SHAPES.get(family, (4, 16, 24)), generator=torch.Generator().manual_seed(5))
    count = 1 if family in MISMATCHED else 2
    together, checks = record(
        family, prompt=[CAT, BALLOON], num_images_per_prompt=count, latents=packed(family, noise[: 2 * count])
    )
    rows = [row for _, current in checks.calls[:1] for row in current.rows if row.branch == "cond"]
    assert [(row.image, row.prompt) for row in rows] == [(i, i // count) for i in range(2 * count)]
    assert together.run.prompts == (CAT, BALLOON)
    for prompt, word, missing, image in ((CAT, "cat", "balloon", count - 1), (BALLOON, "balloon", "cat", count)):
        assert np.isnan(readings(together, missing, image=image)).all()
        apart, _ = record(family, prompt=prompt, latents=packed(family, noise[image : image + 1]))
        assert np.abs(readings(together, word, image=image) - readings(apart, word)).max() < 1e-4
        assert together.run.prompt_of(image) == prompt
        spelt = [(each.label, each.start) for each in apart.words]
        assert [(each.label, each.start) for each in together.words_of(image)] == spelt


def test_a_picture_has_the_words_of_its_own_prompt(tmp_path: Path):
    words = ["cat", "dog", "balloon", "red", "red balloon", *SPECIAL]
    saved = record("sd1", prompt=[CAT, BALLOON], num_images_per_prompt=2, words=words)[0].save(tmp_path / "trace")
    trace = probe.open(saved)
    assert [trace.run.prompt_of(image) for image in range(4)] == [CAT, CAT, BALLOON, BALLOON]
    assert [[word.label for word in trace.words_of(image)] for image in (1, 2)] == [
        CAT.split(),
        ["a", "dog", "and", "a#2", "red", "balloon"],
    ]
    assert {token.word for token in trace.tokens_of(2)} == {None, "a", "dog", "and", "a#2", "red", "balloon"}
    there = [set(trace.labels_of(image)) - set(SPECIAL) for image in (1, 2, 4)]
    assert there == [{"cat"}, {"dog", "balloon", "red", "red balloon"}, set()]
    assert [content_words(trace, image) for image in (1, 2)] == [("cat",), ("dog", "red", "balloon")]
    found = probe.attention(trace, "red balloon", image=2)
    assert found.provenance["prompt"] == BALLOON
    with pytest.raises(
        NoSuchWord,
        match=r"'dog' has no readings for picture 1, branch 'cond', of the prompt 'a cat'; .* are: cat, <start>",
    ):
        probe.attention(trace, "dog", image=1)
    assert find_cast(trace, None, image=3) == Cast(("dog", "balloon"), {"balloon": "red"})
    assert "a dog and a" in probe.show.render_report(trace, image=3)


def test_a_word_must_be_in_one_of_the_prompts():
    trace, _ = record("sd1", prompt=[CAT, BALLOON], words=["balloon"])
    assert trace.labels == ("balloon",)
    with pytest.raises(NoSuchWord, match=r"'bear' is not in the prompt"):
        record("sd1", prompt=[CAT, BALLOON], words=["bear"])


def test_encoders_are_kept_apart():
    words = ["cat", "cat@text_encoder", "cat@text_encoder_3", "<padding>@text_encoder_3"]
    trace, _ = record("sd3", words=words)
    assert trace.labels == tuple(words)
    clip, t5 = readings(trace, "cat@text_encoder"), readings(trace, "cat@text_encoder_3")
    assert np.allclose(readings(trace, "cat"), clip + t5, atol=1e-6)
    assert clip.min() > 0 and t5.min() > 0
    with pytest.raises(
        NoMatch, match=r"no columns belong to 'text_encoder_2'; there are: text_encoder, text_encoder_3"
    ):
        record("sd3", words=["cat@text_encoder_2"])


def test_prompts_of_their_own_for_each_encoder():
    trace, _ = record("sd3", prompt="a cat", prompt_3="a red balloon", words=["cat", "balloon"])
    assert np.isfinite(readings(trace, "balloon")).all() and np.isfinite(readings(trace, "cat")).all()
    trace, _ = record("flux1", prompt="a cat", prompt_2="a red balloon")
    assert trace.labels == ("red", "balloon")


@pytest.mark.parametrize("family", ["pixart_sigma", "sana"])
def test_cleaned_prompts_keep_their_spelling(family: str):
    trace, _ = record(family, prompt="  A CAT and a Red balloon ")
    assert trace.labels[:3] == ("CAT", "Red", "balloon")
    plain, _ = record(family, prompt="a cat and a red balloon")
    assert np.allclose(readings(trace, "CAT"), readings(plain, "cat"), atol=1e-6)


def test_an_encoder_that_reads_something_else_is_an_error(monkeypatch: pytest.MonkeyPatch):
    pipe = pipelines.pipeline("pixart_sigma")
    monkeypatch.setattr(pipe, "_text_preprocessing", lambda text, clean_caption=False: ["a bear and a red balloon"])
    with pytest.raises(
        RecordingError, match=r"text_encoder did not read 'a cat and a red balloon'.*1 of 6 tokens agree.*bear"
    ):
        record("pixart_sigma")


@pytest.mark.parametrize("family", ["sd1", "flux1", "sana", "qwen_image"])
def test_words_that_fall_off_are_said(family: str):
    prompt = "a cat and " + " ".join(["a red dog"] * 30) + " with a balloon"
    limit = {} if family == "sd1" else {"max_sequence_length": 100 if family == "qwen_image" else 32}
    encoder = "text_encoder_2" if family == "flux1" else "text_encoder"
    with pytest.warns(ProbeWarning, match=rf"was truncated: {encoder} reads .* and not all of: .*red#"):
        trace, _ = record(family, prompt=prompt, **limit)
    assert "cat" in trace.labels and "balloon" not in trace.labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)
        with pytest.raises(NoSuchWord, match=r"no encoder reads a token of 'balloon'.*Shorten the prompt"):
            record(family, prompt=prompt, words=["balloon"], **limit)


@pytest.mark.parametrize(
    ("family", "option"), [("lumina2", {"cfg_trunc_ratio": 0.5}), ("z_image", {"cfg_truncation": 0.2})]
)
def test_guidance_that_ends_before_the_last_step(family: str, option: dict[str, float]):
    words = ["cat", "<start>"]
    trace, _ = record(family, branches=("cond", "uncond"), words=words, num_inference_steps=4, **option)
    norms = trace.node("/guidance")["difference_norm"].values[:, 0]
    assert np.isfinite(norms).tolist() == [True, True, False, False]
    assert np.isfinite(trace.node("/guidance")["cond_norm"].values).all()
    resting = np.isnan(norms)
    for step, rests in enumerate(resting):
        assert np.isfinite(readings(trace, "cat", step=step)).all()
        assert np.isnan(readings(trace, "<start>", branch="uncond", step=step)).all() == rests


def test_a_third_call_that_skips_layers_is_a_branch_of_its_own():
    plain, _ = record("sd3", num_inference_steps=3)
    skipping = {"skip_guidance_layers": [1], "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    trace, _ = record("sd3", num_inference_steps=3, branches=("cond", "cond#2"), **skipping)
    for step in (0, 1):  # until the third call moves the latents, all is as without it
        assert np.array_equal(readings(trace, "cat", step=step), readings(plain, "cat", step=step))
    third = trace.attention_nodes()[0]["attention"].sel(word="cat", branch="cond#2", image=0)
    read = np.isfinite(third.values).all(axis=(-2, -1))  # [site, step]
    assert read.tolist() == [[False, True, True], [False, False, False]]
    assert np.isnan(trace.node("/guidance")["cond#2_norm"].values[0]).all()


def test_embeddings_encoded_inside_the_block_keep_their_words():
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe) as recording:
        cond, _ = pipe.encode_prompt(CAT, "cpu", 1, False)
        pipelines.run(pipe, "sd1", prompt=None, prompt_embeds=cond, guidance_scale=1.0)
    assert recording.trace.labels[0] == "cat"
    assert recording.trace.run.prompts == (CAT,)


def test_embeddings_without_a_prompt_are_an_error_unless_no_word_is_asked_for():
    pipe = pipelines.pipeline("sd1")
    cond, _ = pipe.encode_prompt(CAT, "cpu", 1, False)
    call = {"prompt": None, "prompt_embeds": cond, "guidance_scale": 1.0}
    with pytest.raises(RecordingError, match="no prompt was encoded as text"), probe.record(pipe):
        pipelines.run(pipe, "sd1", **call)
    with probe.record(pipe, words=[]) as recording:
        pipelines.run(pipe, "sd1", **call)
    assert recording.trace.attention_nodes() == ()
    assert recording.trace.run.steps == 2


def test_a_prompt_that_is_only_tried_does_not_stay():
    pipe = pipelines.pipeline("sd1")
    with probe.record(pipe) as recording:
        pipe.encode_prompt("a dog", "cpu", 1, True)
        pipelines.run(pipe, "sd1", prompt=CAT)
    assert recording.trace.run.prompts == (CAT,)
    assert recording.trace.labels[0] == "cat"


def test_a_decoder_without_text_says_so():
    pipe = pipelines.pipeline("kandinsky22")
    with pytest.raises(probe.errors.BadInput, match="reads no text"), probe.record(pipe, words=["cat"]):
        pass
    with probe.record(pipe) as recording:
        pipelines.run(pipe, "kandinsky22")
    assert recording.trace.sites == ()
    assert "difference_norm" in recording.trace.node("/guidance")
    assert "reads no text" in recording.trace.extra["note"]


def test_sliced_attention_is_missed_not_overlooked():
    pipe = pipelines.load("sd1")
    pipe.enable_attention_slicing()
    with pytest.raises(probe.errors.MissingReadings, match=r"14 of 14.*disable_attention_slicing"), probe.record(pipe):
        pipelines.run(pipe, "sd1")


def test_words_that_another_prompts_mask_cuts_off_are_missing_not_misread():
    with pytest.warns(ProbeWarning, match="so it does not see: and, a#2, red, balloon"):
        trace, _ = record("lumina2", prompt=[CAT, BALLOON], num_images_per_prompt=2)
    assert np.isfinite(readings(trace, "cat", image=1)).all()
    assert np.isnan(readings(trace, "balloon", image=2)).all()  # its row has the mask of the shorter prompt
    assert np.isfinite(readings(trace, "balloon", image=3)).all()


def test_masks_in_another_order_than_their_texts_are_told_from_texts_that_were_not_heard():
    """HunyuanImage repeats embeddings prompt by prompt, and their masks all over again."""
    two = {"prompt": [CAT, BALLOON], "negative_prompt": ["ugly", "blurry"], "num_images_per_prompt": 2}
    with pytest.raises(
        RecordingError, match="masks of its texts in another order .* one prompt a call, or one picture"
    ):
        record("hunyuan_image", **two)
    own = Prompt(
        text="a",
        words=(),
        tokens=(Token(encoder="text_encoder", index=0, id=1, text="a", start=0, end=1),),
        lengths={"text_encoder": 1},
    )
    with pytest.raises(RecordingError, match="attends to 2 tokens .* to read 1, .*: give the prompt as text"):
        check_attended({MASKS[0]: torch.ones(1, 2)}, [own], FAMILIES["HunyuanImageTransformer2DModel"])


def test_blanks_that_a_pipeline_joins_or_keeps():
    plain, _ = record("pixart_sigma", prompt="a cat and a red balloon")
    joined, _ = record("pixart_sigma", prompt=" a  CAT\nand a red balloon")
    assert np.allclose(readings(joined, "CAT"), readings(plain, "cat"), atol=1e-6)
    kept, _ = record("sana", prompt=" a  CAT\nand a red balloon")
    assert kept.labels[:3] == ("CAT", "red", "balloon")
