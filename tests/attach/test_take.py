"""The parts of a take: rows of a batch, planes of packed latents, prompts among the ids that were heard."""

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, LTXPipeline, QwenImagePipeline

import probe
from probe.attach.model.families import FAMILIES, Family, Stream
from probe.attach.model.layout import Plane, plane, unpacked
from probe.attach.text.alignment import find, kept, prompt_of, tokens
from probe.attach.text.hearing import Encoded, Heard
from probe.attach.text.lexicon import IMAGE, dictionary
from probe.attach.text.rows import Labeller, Row, Source, sources
from probe.errors import UnknownFamily
from probe.words import read_prompt
from tests import pipelines
from tests.tokenizers import clip_tokenizer, llama_tokenizer, qwen_tokenizer, t5_tokenizer

FLUX, LTX = FAMILIES["FluxTransformer2DModel"], FAMILIES["LTXVideoTransformer3DModel"]


def states(*numbers: float) -> torch.Tensor:
    return torch.stack([torch.full((3, 2), number) for number in numbers])


def branches(rows: tuple[Row, ...]) -> list[tuple[str, int, int]]:
    return [(row.branch, row.image, row.prompt) for row in rows]


def labeller(pictures: int = 1, *, cond_first: bool = False, **sides: torch.Tensor) -> Labeller:
    prompts = tuple("abc"[: max(len(value) for value in sides.values())])
    encoded = Encoded(prompts, states={side: list(value) for side, value in sides.items()})
    return Labeller(sources(encoded, cond_first=cond_first), encoded.other, pictures, len(prompts))


def test_rows_are_known_by_their_text_in_any_order():
    label = labeller(cond=states(1), other=states(2)).label
    assert branches(label(states(2, 1))) == [("uncond", 0, 0), ("cond", 0, 0)]
    label = labeller(cond=states(1), other=states(2)).label
    assert branches(label(states(1, 2))) == [("cond", 0, 0), ("uncond", 0, 0)]


def test_pictures_are_numbered_in_the_order_of_the_batch():
    label = labeller(4, cond=states(1, 3), other=states(2, 2)).label
    assert branches(label(states(1, 1, 3, 3))) == [("cond", 0, 0), ("cond", 1, 0), ("cond", 2, 1), ("cond", 3, 1)]
    label = labeller(4, cond=states(1, 3), other=states(2, 2)).label
    assert branches(label(states(1, 3, 1, 3))) == [("cond", 0, 0), ("cond", 1, 1), ("cond", 2, 0), ("cond", 3, 1)]


def test_equal_prompts_fill_up_one_after_the_other():
    label = labeller(4, cond=states(1, 1), other=states(1, 1)).label
    found = branches(label(states(*[1] * 8)))
    assert [image for _, image, _ in found] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [prompt for _, _, prompt in found] == [0, 0, 1, 1, 0, 0, 1, 1]
    assert [branch for branch, _, _ in found] == ["uncond"] * 4 + ["cond"] * 4
    label = labeller(2, cond_first=True, cond=states(1), other=states(1)).label
    assert [branch for branch, _, _ in branches(label(states(1, 1, 1, 1)))] == ["cond"] * 2 + ["uncond"] * 2


def test_separate_calls_of_equal_text_begin_with_cond_at_every_step():
    one = labeller(cond=states(1), other=states(1))
    for _ in range(2):
        assert branches(one.label(states(1))) == [("cond", 0, 0)]
        assert branches(one.label(states(1))) == [("uncond", 0, 0)]
        one.begin_step()
    assert branches(one.label(states(1), "uncond")) == [("uncond", 0, 0)]  # the pipeline said so


def test_a_branch_that_runs_again_gets_a_number():
    one = labeller(cond=states(1), other=states(2))
    assert branches(one.label(states(1, 2, 2))) == [("cond", 0, 0), ("uncond", 0, 0), ("uncond#2", 0, 0)]
    one.begin_step()
    assert branches(one.label(states(2, 1))) == [("uncond", 0, 0), ("cond", 0, 0)]
    assert branches(one.label(states(1))) == [("cond#2", 0, 0)]


def test_a_text_that_nobody_encoded_as_a_prompt_is_neither_branch():
    label = labeller(cond=states(1), other=states(2)).label
    assert branches(label(states(2, 1, 5))) == [("uncond", 0, 0), ("cond", 0, 0), ("further", 0, 0)]
    label = labeller(cond=states(1), other=states(2)).label
    assert branches(label(states(2, 1.2))) == [("uncond", 0, 0), ("cond", 0, 0)]  # changed, and yet the closest


def test_a_text_that_overflowed_is_close_to_none_and_rows_are_in_their_order():
    label = labeller(cond=states(1), other=states(2)).label
    assert branches(label(states(torch.nan, torch.nan))) == [("uncond", 0, 0), ("cond", 0, 0)]


def test_without_texts_the_other_branch_comes_first():
    one = Labeller((), "uncond", 2, 1)
    assert branches(one.by_order(4)) == [("uncond", 0, 0), ("uncond", 1, 0), ("cond", 0, 0), ("cond", 1, 0)]
    one.begin_step()
    assert branches(one.by_order(2)) == [("cond", 0, 0), ("cond", 1, 0)]


def test_a_source_of_another_length_is_no_match():
    long = Source("cond", 0, torch.zeros(5, 2))
    short = Source("uncond", 0, torch.ones(3, 2))
    assert branches(Labeller([long, short]).label([torch.zeros(3, 2), torch.zeros(5, 2)])) == [
        ("uncond", 0, 0),
        ("cond", 0, 0),
    ]


def test_packed_latents_unpack_as_the_pipelines_do_it():
    packed = torch.randn(2, 8 * 12, 16, generator=torch.Generator().manual_seed(0))
    where = Plane(1, 8, 12, 96)
    assert torch.equal(unpacked(packed, where, FLUX), FluxPipeline._unpack_latents(packed, 64, 96, 4))
    assert torch.equal(unpacked(packed, where, FLUX), QwenImagePipeline._unpack_latents(packed, 64, 96, 4)[:, :, 0])
    film = torch.randn(2, 3 * 8 * 12, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(unpacked(film, Plane(3, 8, 12, 288), LTX), LTXPipeline._unpack_latents(film, 3, 8, 12))


def test_pictures_to_refer_to_are_cut_off():
    packed = torch.randn(1, 96 + 20, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        unpacked(packed, Plane(1, 8, 12, 116), FLUX), unpacked(packed[:, :96], Plane(1, 8, 12, 96), FLUX)
    )


def test_planes_come_from_what_the_denoiser_is_given():
    tokens, ids = torch.zeros(1, 116, 16), torch.zeros(116, 3)
    ids[:96, 1], ids[:96, 2] = torch.arange(96) // 12, torch.arange(96) % 12
    ids[96:, 0] = 1  # a second picture
    assert plane({"img_ids": ids}, tokens, FLUX) == Plane(1, 8, 12, 116)
    assert plane({"img_shapes": [[(1, 8, 12), (1, 4, 5)]]}, tokens, FLUX) == Plane(1, 8, 12, 116)
    assert plane({"num_frames": 3, "height": 4, "width": 5}, torch.zeros(1, 60, 4), LTX) == Plane(3, 4, 5, 60)
    assert plane({}, torch.zeros(2, 4, 17, 24), Family("a", "cross", (), patch=2)) == Plane(1, 9, 12, 108)
    assert plane({}, [torch.zeros(4, 1, 16, 24)], Family("a", "last", (), patch=2)) == Plane(1, 8, 12, 96)
    assert plane({}, torch.zeros(1, 3, 4, 16, 24), FAMILIES["CogVideoXTransformer3DModel"]) == Plane(3, 8, 12, 288)
    with pytest.raises(UnknownFamily, match="116 packed tokens without their places"):
        plane({"hidden_states": tokens}, tokens, FLUX)


@pytest.mark.parametrize("family", ["flux1", "chroma", "sd3", "z_image", "cogview4", "lumina2"])
def test_the_last_latents_decode_to_the_picture(family: str):
    pipe = pipelines.pipeline(family)
    with probe.record(pipe) as recording:
        picture = pipelines.run(pipe, family)
    last = torch.from_numpy(recording.trace.node("/latents")["latents"].values[-1]).float()
    with torch.no_grad():
        decoded = pipe.vae.decode(last / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample
    shown = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.corrcoef(shown.ravel(), picture.ravel())[0, 1] > 0.99


ALONE = {
    "sd1": 1.0,
    "sd3": 1.0,
    "flux1": 3.5,
    "z_image": 0.0,
    "lumina2": 1.0,
    "cogview4": 1.0,
    "cogvideox": 1.0,
    "wan": 1.0,
}


@pytest.mark.parametrize("family", ALONE)
def test_without_guidance_the_guided_output_is_that_of_cond(family: str):
    pipe = pipelines.pipeline(family)
    with probe.record(pipe) as recording:
        pipelines.run(pipe, family, guidance_scale=ALONE[family])
    node = recording.trace.node("/guidance")
    assert np.allclose(node["cond_norm"], node["guided_norm"], rtol=1e-5)  # also where the pipeline turns the sign


# Prompts among what was heard.

CAT = "a cat and a red balloon"


def heard(tokenizer: object, text: str, **options: object) -> Heard:
    encoded = tokenizer(text, **options)
    return Heard("text_encoder", tuple(encoded.input_ids), tuple(bool(i) for i in encoded.attention_mask))


@pytest.mark.parametrize("make", [clip_tokenizer, t5_tokenizer, qwen_tokenizer, llama_tokenizer])
def test_a_heard_prompt_is_placed_as_it_is_read(make: object):
    tokenizer = make()
    row = heard(tokenizer, CAT, padding="max_length", max_length=40)
    place, *_ = find(CAT, "text_encoder", tokenizer, [row])
    laid = tokens(place, range(40), tokenizer)
    prompt = prompt_of(CAT, {"text_encoder": place.whole}, {"text_encoder": laid})
    expected = read_prompt(CAT, {"text_encoder": tokenizer}, lengths={"text_encoder": 40})
    assert prompt.words == expected.words
    assert [(t.id, t.word, t.start, t.end) for t in prompt.tokens] == [
        (t.id, t.word, t.start, t.end) for t in expected.tokens
    ]
    assert [t.special == "<padding>" for t in prompt.tokens] == [t.special == "<padding>" for t in expected.tokens]


def test_padding_is_known_without_a_mask():
    tokenizer = clip_tokenizer()
    row = Heard("text_encoder", tuple(tokenizer(CAT, padding="max_length", max_length=12).input_ids), None)
    place, *_ = find(CAT, "text_encoder", tokenizer, [row])
    names = [token.special for token in tokens(place, range(12), tokenizer)]
    assert names == ["<start>", *[None] * 6, "<end>", *["<padding>"] * 4]


def test_the_row_with_least_around_it_is_the_prompts():
    tokenizer = t5_tokenizer()
    longer, own = heard(tokenizer, f"{CAT} and a dog"), heard(tokenizer, CAT)
    assert find(CAT, "text_encoder", tokenizer, [longer, own])[0].row == own
    assert find("a dog in a house", "text_encoder", tokenizer, [longer, own]) == []


def test_a_prompt_inside_a_template_and_one_that_is_cut():
    tokenizer = qwen_tokenizer()
    row = heard(tokenizer, f"<|im_start|>user\n{CAT}<|im_end|>\n<|im_start|>assistant\n")
    (place,) = find(CAT, "text_encoder", tokenizer, [row])
    assert [token.text for token in place.tokens] == CAT.split()
    cut = Heard("text_encoder", row.ids[: place.start + 4], None)
    (short,) = find(CAT, "text_encoder", tokenizer, [cut])
    assert len(short.tokens) == 4 and len(short.whole) == len(place.tokens) == 6
    laid = tokens(short, range(len(cut.ids)), tokenizer)
    prompt = prompt_of(CAT, {"text_encoder": short.whole}, {"text_encoder": laid})
    assert prompt.fallen == {"text_encoder": ("red", "balloon")}
    assert find(CAT, "text_encoder", tokenizer, [Heard("text_encoder", row.ids[: place.start + 3], None)]) == []


def test_columns_that_a_pipeline_keeps():
    attended = [False, True, True, True, True, False]
    assert kept(Stream("e", "t"), attended, 6) == [0, 1, 2, 3, 4, 5]
    assert kept(Stream("e", "t", keeps="attended"), attended, 6) == [1, 2, 3, 4]
    assert kept(Stream("e", "t", keeps="attended"), attended, 2, drop=1) == [2, 3]
    assert kept(Stream("e", "t", keeps="tail"), attended, 3) == [3, 4, 5]
    assert kept(Stream("e", "t", keeps="first and tail"), attended, 3) == [0, 4, 5]


def test_what_is_left_over_is_one_minus_all_else():
    tokenizer = clip_tokenizer()
    prompt = read_prompt(CAT, {"text_encoder": tokenizer}, lengths={"text_encoder": 12})
    cross = dictionary(prompt, FAMILIES["UNet2DConditionModel"]).lexicon(["cat", "<padding>"])
    assert cross.rest == "<padding>" and len(cross.columns) == 8  # all but the padding
    joint = dictionary(prompt, FAMILIES["ChromaTransformer2DModel"]).lexicon(["cat", "<padding>", IMAGE])
    assert joint.rest == IMAGE and len(joint.columns) == 12
    columns, weights, offset = joint.weights(torch.device("cpu"), 12)
    p = torch.rand(5, 12) / 24
    maps = p[:, columns] @ weights + offset
    assert torch.allclose(maps[:, 0], p[:, 2])
    assert torch.allclose(maps[:, 1], p[:, 8:].sum(1))
    assert torch.allclose(maps[:, 2], 1 - p.sum(1))
    assert joint.weights(torch.device("cpu"), 2)[2].isnan().tolist() == [True, True, False]
