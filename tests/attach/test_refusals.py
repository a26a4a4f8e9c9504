"""What cannot be read is refused before the run, or in the first pass that shows it; nothing is left out in silence."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from diffusers import FirstBlockCacheConfig

import probe
from probe.attach.kept.keeping import Kept
from probe.attach.kept.related import Asked, Held, RelationReader
from probe.attach.request import Request
from probe.errors import MissingReadings, NoMatch, NoSuchWord, ProbeWarning
from probe.trace import Trace
from tests import pipelines

CAT = "a cat"


def record(family: str, call: dict[str, Any] | None = None, **options: Any) -> Trace:
    """A run of "a cat" that makes no picture."""
    pipe = pipelines.pipeline(family)
    with probe.record(pipe, **options) as recording:
        given: dict[str, Any] = {"prompt": CAT, "output_type": "latent"}
        pipelines.run(pipe, family, **given | (call or {}))
    return recording.trace


def steps_until(refused: Callable[[], Any], pipe: Any) -> int:
    """How many steps ran before a recording was refused."""
    count, original = 0, pipe.scheduler.step

    @wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipe.scheduler, "step", step)
        refused()
    return count


WORDLESS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("sd1", {}, {"words": ["<image>"]}, r"'<image>' has no column in UNet; .* there are: <start>, <end>, <padding>$"),
    ("flux1", {}, {"words": ["<start>"]}, r"'<start>' has no column in FLUX.1; .*: <end>, <padding>, <image>$"),
    ("flux1", {}, {"words": ["cat", "<start>"]}, r"'<start>' has no column in FLUX.1"),
    (
        "sd1",
        {},
        {"words": ["cat"], "branches": ["uncond"]},
        r"'cat' is no word of branches=\['uncond'\], which read ''; it is one of cond: branches=\['cond', 'uncond'\]",
    ),
    (
        "sd1",
        {"negative_prompt": "a dog"},
        {"words": ["cat"], "branches": ["negative"]},
        r"'cat' is no word of branches=\['negative'\], which read 'a dog'; it is one of cond",
    ),
    (
        "sd1",
        {"negative_prompt": "a cat"},
        {"words": ["cat"], "branches": ["uncond"]},
        r"for which no encoder read a text; it is one of cond, negative: branches=\['cond', 'negative'\]$",
    ),
    (
        "sd1",
        {"negative_prompt": "a dog"},
        {"words": ["dog"]},
        r"'dog' is not in the prompt; .*word of the negative prompt 'a dog': branches=\['cond', 'negative'\]$",
    ),
    (
        "sdxl",
        {},
        {"words": ["cat"], "branches": ["uncond"]},
        r"'cat' is no word of branches=\['uncond'\], for which no encoder read a text; it is one of cond",
    ),
    ("qwen_image", {"negative_prompt": " "}, {"words": ["*"], "branches": ["uncond"]}, r"'\*' is no word of branches="),
]


@pytest.mark.parametrize(("family", "call", "options", "said"), WORDLESS)
def test_words_that_no_wanted_branch_reads_are_refused(
    family: str, call: dict[str, Any], options: dict[str, Any], said: str
):
    def refused() -> None:
        with pytest.raises(NoSuchWord, match=said):
            record(family, call, **options)

    assert steps_until(refused, pipelines.pipeline(family)) == 0


def test_sites_without_words_are_refused_after_the_first_pass():
    def refused() -> None:
        with pytest.raises(NoMatch, match=r"none of the 7 chosen sites reads words.*attn1 \(self\).*words=\[\]"):
            record("sd1", words=["cat"], sites="attn1")

    assert steps_until(refused, pipelines.pipeline("sd1")) == 0
    assert record("sd1", words=[], sites="attn1").labels == ()
    assert record("sd1", relations=["image->image"], sites="attn1").sites


def test_a_branch_of_zeros_has_no_words():
    with pytest.raises(NoMatch, match=r"'uncond' runs without a text: .* There are words of cond: record that branch"):
        record("sdxl", branches=["uncond"])
    assert "modules" in record("sdxl", branches=["uncond"], modules="mid_block").tree


def test_every_pattern_of_sites_must_match():
    paths: dict[str, None] = dict.fromkeys(("unet.mid_block.attn1", "unet.up_blocks.1.attn2"))
    assert list(Request(sites=["mid_block", "attn2"]).chosen(paths)) == list(paths)
    with pytest.raises(NoMatch, match=r"sites=\['mid_block', 'midd_blok'\]: 'midd_blok' matches none .*\n  unet.mid_b"):
        Request(sites=["mid_block", "midd_blok"]).chosen(paths)
    with pytest.raises(NoMatch, match=r"'midd_blok' matches none"):
        record("sd1", sites=["mid_block", "midd_blok"])
    trace = record("sd1")
    assert len(trace.sel(site=["mid_block", "down_blocks"]).sites) > 1
    with pytest.raises(NoMatch, match=r"no site matches pattern='midd_blok'.*there are:\n  unet.down"):
        trace.sel(site=["mid_block", "midd_blok"])


@pytest.mark.parametrize(
    ("branches", "said"), [([], "names none"), (["cond", "uncnd"], "names 'uncnd'"), (["cond#1"], "names 'cond#1'")]
)
def test_branches_are_checked_before_the_run(branches: list[str], said: str):
    with pytest.raises(NoMatch, match=rf"{said}.* there are cond, uncond, negative, .*'cond#2'.*'\*'"):
        probe.record(pipelines.pipeline("sd1"), branches=branches)


def test_all_branches_are_those_too_that_run_again():
    trace = record("instruct_pix2pix", branches="*", modules="mid_block")
    named = record("instruct_pix2pix", branches=["cond", "uncond", "uncond#2"], modules="mid_block")
    assert trace.along("branch") == ("cond", "uncond", "uncond#2")
    for path in ("attention/8x12", "modules/unet.mid_block"):
        assert trace.node(path).identical(named.node(path))


def test_skipped_layers_are_a_branch_among_all():
    call = {"num_inference_steps": 3, "skip_guidance_layers": [1]}
    call |= {"skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    assert record("sd3", call, branches="*").along("branch") == ("cond", "uncond", "cond#2")


def test_an_empty_prompt_has_its_special_tokens():
    for family, there in (("sd1", ("<start>", "<end>", "<padding>")), ("flux1", ("<end>", "<padding>"))):
        assert record(family, {"prompt": ""}, words=["*"]).labels == there


def test_a_second_prompt_whose_words_have_no_names():
    second = {"prompt_2": "a horse"}
    with pytest.warns(ProbeWarning, match="text_encoder_2 reads 'a horse' and not 'a cat'") as said:
        assert "horse" not in record("sdxl", second).labels
    assert len([one for one in said if "horse" in str(one.message)]) == 1
    with pytest.raises(NoSuchWord, match=r"'horse' is read by text_encoder_2 alone, .*prompt_2.*: 'a cat'\. Ask for"):
        record("sdxl", second, words=["horse"])
    assert record("sdxl", second, words=[]).labels == ()


@pytest.mark.parametrize(
    "options",
    [{}, {"relations": ["image->image"]}, {"relations": ["text->image"], "words": ["cat"]}, {"steps": [1, 3]}],
    ids=["words", "cells to cells", "words to cells", "some steps"],
)
def test_what_a_cache_skips_is_refused_at_that_step_with_the_remedy(options: dict[str, Any]):
    pipe = pipelines.load("flux1")
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=10.0))

    def refused() -> None:
        with (
            pytest.raises(MissingReadings, match=r"4 of 5 .* at step 1: .*disable_cache"),
            probe.record(pipe, **options),
        ):
            pipelines.run(pipe, "flux1", prompt=CAT, num_inference_steps=6, output_type="latent")

    assert steps_until(refused, pipe) == 1


def test_what_a_cache_kept_of_a_run_that_broke_off_is_missed_at_the_first_step():
    pipe = pipelines.load("flux1")
    config = FirstBlockCacheConfig(threshold=10.0)
    pipe.transformer.enable_cache(config)

    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    def run(**options: Any) -> None:
        pipelines.run(pipe, "flux1", prompt=CAT, num_inference_steps=1, output_type="latent", **options)

    with pytest.raises(KeyboardInterrupt):
        run(callback_on_step_end=broken)
    with (
        pytest.raises(MissingReadings, match=r"4 of 5 .* did not run at step 0: .*broke off: .*enable_cache\(config\)"),
        probe.record(pipe),
    ):
        run()
    pipe.transformer.disable_cache()
    pipe.transformer.enable_cache(config)
    with probe.record(pipe) as recording:
        run()
    assert len(recording.trace.sites) == 5


def test_a_relation_that_a_step_lacks_is_missed():
    kept, reader = Kept(), RelationReader(Asked(("image->image:mean",)))
    kept.plan(2)
    place = ("unet.mid_block.attn1", 0)
    reader.held = {"image->image:mean": {(place, "cond"): {(0, 0): Held([])}, (place, "cond#2"): {(0, 0): Held([])}}}
    reader.ran |= {(step, "unet", branch) for step in (0, 1) for branch in ("cond", "cond#2")}
    reader.check("image->image:mean", kept, 1)
    with pytest.raises(MissingReadings, match=r"unet.mid_block.attn1 gave no image->image:mean at .* \[1\] \(branch"):
        reader.check("image->image:mean", kept, 2)


def test_low_rank_factors_of_a_group_of_steps_are_of_its_first_and_none_is_missed():
    call = {"num_inference_steps": 4}
    trace = record("sd1", call, relations=["image->image:low-rank"], groups=2)
    first = record("sd1", call, relations=["image->image:low-rank"], keep="maps")
    node, other = (one.node("relations/image_to_image/low_rank/8x12")["asking"] for one in (trace, first))
    assert (node.sel(step=2).values == other.sel(step=2).values).all()
