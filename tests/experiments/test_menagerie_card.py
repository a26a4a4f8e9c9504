"""The model card's experiment, on untrained weights and two steps: it asks the right prompts and counts right."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL.Image import Image

import probe
from experiments import menagerie_card as card
from experiments import menagerie_pictures as pictures
from experiments.menagerie_prompts import pair_prompts, seen_pairs
from probe.generator import parts
from probe.generator.judge import Instance, Judge, Network, Verdict
from probe.generator.tokenizer import build
from probe.generator.world import held_out, rare
from probe.generator.world import vocabulary as v

TOP_LEFT = np.zeros((128, 128), bool)
TOP_LEFT[:64, :64] = True


class Certain(Judge):
    """Sees the same things in every picture."""

    verdict = Verdict((Instance("cat", TOP_LEFT),), "snow")

    def read_all(self, pictures):
        return [self.verdict for _ in pictures]


def untrained(latent_side: int) -> card.Bench:
    """Menagerie's parts as they are before training, for pictures of 4 x `latent_side` pixels."""
    torch.manual_seed(0)
    tokenizer, unet = build(), parts.denoiser()
    unet.register_to_config(sample_size=latent_side)
    clip = parts.clip(tokenizer).eval()
    pipe = StableDiffusionPipeline(
        vae=parts.autoencoder().eval(), text_encoder=parts.text_encoder(clip), tokenizer=tokenizer, unet=unet.eval(),
        scheduler=parts.scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return card.Bench(pipe, Certain(Network()), clip, None, 2)


@pytest.fixture(scope="module")
def bench() -> card.Bench:
    return untrained(8)


@pytest.fixture(scope="module")
def large() -> card.Bench:
    """With attention at 16 x 16."""
    return untrained(32)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pictures, "STEPS", 2)
    monkeypatch.setattr(card, "TIGHT", 1)
    yield


def test_pairs_are_seen_ones_and_always_the_same():
    pairs = seen_pairs(100)
    assert pairs == seen_pairs(100)
    assert len(set(pairs)) == 100
    assert not {frozenset(pair) for pair in pairs} & (held_out() | rare())
    assert {kind for pair in pairs for kind in pair} == set(v.SUBJECTS)


def test_prompts_are_in_the_language():
    prompts = pair_prompts(seen_pairs(100)) + list(card.SHEET)
    assert {word for prompt in prompts for word in prompt.split()} <= set(v.all_words())
    assert pair_prompts([("cat", "elephant")]) == ["a cat and an elephant"]
    first, second = pair_prompts([("cat", "balloon")])[0].split(" and ")
    assert first == "a cat"
    assert second.split()[1] in v.COLOURS
    assert second.split()[2] == "balloon"


def test_a_prompt_has_its_own_seed_whatever_the_batch(bench: card.Bench, monkeypatch: pytest.MonkeyPatch):
    prompts = ["a cat", "a dog", "a cat"]
    together = card.paint(bench.pipe, prompts, seed=7)
    monkeypatch.setattr(pictures, "BATCH", 1)
    alone = card.paint(bench.pipe, prompts, seed=7)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1
    assert not np.array_equal(np.asarray(together[0]), np.asarray(together[2]))


def test_lines_count_what_the_judge_says(bench: card.Bench):
    assert v.KINDS[:2] == ("cat", "dog")
    (single,) = card.single(bench)
    assert (single.value, single.count, single.hits) == (0.5, 2, 1)  # "a cat" shows one, "a dog" does not
    (place,) = card.place(bench)
    assert place.value == 0.0  # meadows were asked for, snow was seen
    seen, unseen = card.pairs(bench)
    assert (seen.value, unseen.value) == (0.0, 0.0)


def test_shares_are_counted_with_guidance_and_without(bench: card.Bench, monkeypatch: pytest.MonkeyPatch):
    """A judge that sees a woman of every profession: each share is 0, so the distance is the mean planted share."""
    every = tuple(Instance(job, TOP_LEFT, gender="woman") for job in v.MAN_SHARE)
    monkeypatch.setattr(Certain, "verdict", Verdict(every, "snow"))
    asked: list[tuple[int, float]] = []

    def watched(pipe: Any, prompts: Sequence[str], seed: int, guidance: float) -> list[Image]:
        asked.append((len(prompts), guidance))
        return pictures.paint(pipe, prompts, seed, guidance)

    monkeypatch.setattr(card, "paint", watched)
    guided, plain, *jobs = card.shares(bench)
    mean = sum(v.MAN_SHARE.values()) / len(v.MAN_SHARE)
    assert (guided.value, plain.value) == (pytest.approx(mean), pytest.approx(mean))
    assert (guided.count, plain.count) == (10 * card.MANY * bench.pictures, 10 * bench.pictures)
    assert {line.value for line in jobs} == {0.0}
    assert asked == [(card.MANY * bench.pictures, card.GUIDANCE)] * 10 + [(bench.pictures, 1.0)] * 10


def test_the_control_is_left_out_without_weights(bench: card.Bench):
    assert card.control(bench) == []


def test_a_map_peaks_on_what_is_shown(large: card.Bench):
    """One answer for the cat, none for the balloon, which is not there; right where the map says so itself."""
    (hit,) = card.peaks(large, "a cat and a red balloon", ("cat", "balloon"), 1)
    with probe.record(large.pipe, words=["cat"]) as recording:
        card.paint(large.pipe, ["a cat and a red balloon"], 1)
    node = recording.trace.node("attention/16x16")["attention"]
    mean = node.sel(word="cat", branch="cond").mean(("site", "step")).squeeze()
    row, column = np.unravel_index(int(mean.values.argmax()), (16, 16))
    assert hit == (row < 8 and column < 8)


@pytest.mark.slow
def test_the_port_changes_the_picture_and_gives_the_pipeline_back(large: card.Bench):
    before = {name: type(p) for name, p in large.pipe.unet.attn_processors.items()}
    plain = card.paint(large.pipe, ["a cat and a dog"], 5)[0]
    excited = card.excite(large.pipe, "a cat and a dog", ("cat", "dog"), 5)
    assert not np.array_equal(np.asarray(plain), np.asarray(excited))
    assert {name: type(p) for name, p in large.pipe.unet.attn_processors.items()} == before
    again = card.paint(large.pipe, ["a cat and a dog"], 5)[0]
    assert np.array_equal(np.asarray(plain), np.asarray(again))


def test_the_sheet_has_eight_pictures_a_prompt(bench: card.Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(card, "SHEET", card.SHEET[:2])
    assert card.samples(bench.pipe).size == (8 * 128, 2 * 146)


def test_every_line_has_a_name_on_the_command_line():
    assert card.arguments(["--only", "pairs", "port"]).only == ["pairs", "port"]
    assert card.arguments([]).only == list(card.LINES)
    with pytest.raises(SystemExit):
        card.arguments(["--only", "nonsense"])
