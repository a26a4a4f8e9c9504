"""What is read from pictures: the judge's verdicts in words, CLIP's phrases, and what a scorer has to be."""

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from probe.generator import weights
from probe.generator.judge import Instance, Verdict, signed, touching
from probe.generator.world import vocabulary as v
from probe.heatmap import Heatmap
from probe.study import Study, scorers
from probe.study.plan import plan
from probe.study.scorers import TEMPLATES, Clip, Judge, Shot, Time, fused, halves, insert, judged

SIDE = 128


def thing(kind: str, left: int, right: int, colour: str | None = None, rows: tuple[int, int] = (20, 100)) -> Instance:
    """A rectangle of a kind."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[slice(*rows), left:right] = True
    return Instance(kind, mask, colour=colour)


def verdict(*things: Instance) -> Verdict:
    return Verdict(tuple(sorted(things, key=lambda one: -one.area)), "plain")


def shot(prompt: str, **row: object) -> Shot:
    [job] = plan(Study(prompts=[{"prompt": prompt, **row}]))
    return Shot(job, Image.new("RGB", (SIDE, SIDE), "white"), seconds=3.0, steps=6)


CAT, DOG = thing("cat", 0, 40), thing("dog", 60, 120)


def test_both_are_there():
    found = judged(verdict(CAT, DOG), ["cat", "dog"], [None, None])
    assert found == {
        "present": [True, True],
        "right": [None, None],
        "leaked": [False, False],
        "neglected": 0,
        "all_present": True,
        "all_right": None,
        "fused": False,
    }


def test_one_is_neglected():
    found = judged(verdict(CAT), ["cat", "dog"], [None, None])
    assert (found["present"], found["neglected"], found["all_present"]) == ([True, False], 1, False)
    assert (found["leaked"], found["fused"]) == ([False, None], None)


def test_words_that_are_not_in_the_world_are_not_judged():
    found = judged(verdict(CAT), ["kitten", "spaceship"], [None, "red"])
    assert (found["present"], found["right"], found["neglected"]) == ([True, None], [None, None], 0)
    assert judged(verdict(CAT), ["spaceship"], [None])["all_present"] is None


def test_two_of_a_kind_need_two():
    two = verdict(thing("cat", 0, 30), thing("cat", 60, 90))
    assert judged(two, ["cat", "cat#2"], [None, None])["present"] == [True, True]
    assert judged(verdict(CAT), ["cat", "cat#2"], [None, None])["present"] == [True, False]


def test_colours_right_wrong_and_leaked():
    car, bowl = thing("car", 0, 40, "red"), thing("bowl", 60, 120, "red")
    found = judged(verdict(car, bowl), ["car", "bowl"], ["crimson", "blue"])
    assert (found["right"], found["leaked"], found["all_right"]) == ([True, False], [False, True], False)
    assert judged(verdict(car), ["car", "bowl"], ["red", "blue"])["right"] == [True, False]
    assert judged(verdict(car), ["car"], ["shiny"])["right"] == [None]


def test_a_hybrid_is_fused_and_neighbours_are_not():
    """A head of one kind on the body of another has most of its outline inside the other."""
    body = thing("dog", 20, 100, rows=(60, 120))
    head = thing("cat", 40, 80, rows=(20, 60))
    inside = thing("cat", 50, 70, rows=(70, 100))
    beside = thing("cat", 100, 120, rows=(60, 120))
    hollow = Instance("dog", body.mask & ~inside.mask)
    assert touching(inside, hollow) == 1.0
    assert touching(head, body) == pytest.approx(40 / (2 * 40 + 2 * 38))
    assert fused(verdict(inside, hollow), ["cat", "dog"]) is True
    assert fused(verdict(head, body), ["cat", "dog"]) is False
    assert fused(verdict(beside, body), ["cat", "dog"]) is False
    assert fused(verdict(thing("bow", 50, 70, rows=(70, 100)), hollow), ["bow", "dog"]) is None  # worn


def test_the_judge_also_says_whether_maps_peak_on_their_subject(monkeypatch: pytest.MonkeyPatch):
    class Seer:
        def read(self, picture: Image.Image) -> Verdict:
            return verdict(CAT, DOG)

    def heatmap(row: int, column: int) -> Heatmap:
        values = np.zeros((4, 4))
        values[row, column] = 1
        return Heatmap(xr.DataArray(values, dims=("y", "x")), "x", "m", "u")

    monkeypatch.setattr(scorers, "_judge", Seer)
    made = shot("a cat, a dog and a frog", subjects=["cat", "dog", "frog"])
    maps = {"attention": {"cat": heatmap(1, 0), "dog": heatmap(1, 1), "frog": heatmap(0, 0)}}
    found = Judge().score(Shot(made.job, made.picture, 1.0, 1, maps=maps))
    assert found["attention_hit"] == [True, False, None]
    assert found["present"] == [True, True, False]


def test_time():
    assert Time().score(shot("a")) == {"picture": 3.0, "step": 0.5}


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat and a dog", ("a cat", "a dog")),
        ("a cat with a bow", ("a cat", "a bow")),
        ("a cat with a bow and a dog", ("a cat with a bow", "a dog")),
        ("a cat", ("a cat",)),
        ("a panda and an ant", ("a panda", "an ant")),
    ],
)
def test_halves(prompt: str, parts: tuple[str, ...]):
    assert halves(prompt) == parts


def test_of_two_articles_one_stays():
    assert insert("a cat", "a photo of a {}.") == "a photo of a cat."
    assert insert("cat", "a photo of a {}.") == "a photo of a cat."
    assert insert("the dog and a panda", "a drawing of the {}") == "a drawing of the dog and a panda"


def test_every_word_of_the_templates_is_in_menageries_language():
    assert {word for template in TEMPLATES for word in template.replace("{}", "").split()} <= set(v.all_words())


class Eye:
    """Embeddings that are known: a phrase is the direction of its last word."""

    words = ("cat", "dog", "bow")

    def text(self, phrase: str, templates: tuple[str, ...] = TEMPLATES) -> np.ndarray:
        vector = np.array([1.0 if word in phrase else 0.0 for word in self.words])
        return vector / np.linalg.norm(vector)


def test_similarity_with_the_whole_and_with_the_worse_half(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scorers, "text_embedding", Eye().text)
    monkeypatch.setattr(scorers, "picture_embedding", lambda picture: np.array([1.0, 0.0, 0.0]))
    found = Clip().score(shot("a cat and a dog"))
    assert found == {"full": pytest.approx(0.5**0.5), "least": 0.0}
    assert Clip().score(shot("a cat")) == {"full": 1.0, "least": 1.0}


def held(name: str) -> pytest.MarkDecorator:
    """Skips where the weights are not there."""
    there = (weights.MENAGERIE / name).is_file()
    return pytest.mark.skipif(not there, reason=f"Menagerie's {name} is not in this checkout")


@held("clip/model.safetensors")
def test_embeddings_are_means_of_unit_embeddings():
    """Against the whole model's own forward pass."""
    import torch

    model, tokenizer = scorers._clip()
    texts = [insert("a cat", template) for template in TEMPLATES]
    tokens = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    grey = Image.new("RGB", (SIDE, SIDE), (127, 128, 127))
    pixels = signed(grey)[None]
    with torch.no_grad():
        out = model(input_ids=tokens, pixel_values=pixels)
    mean = out.text_embeds.mean(0)
    assert np.allclose(scorers.text_embedding("a cat"), (mean / mean.norm()).numpy(), atol=1e-5)
    assert np.allclose(scorers.picture_embedding(grey), out.image_embeds[0].numpy(), atol=1e-5)


@held("judge/model.safetensors")
def test_menageries_own_judge():
    found = Judge().score(shot("a cat", subjects=["cat"]))
    assert (found["present"], found["neglected"]) == ([False], 1)  # a white picture


def test_a_judge_says_of_which_words_it_can_tell():
    assert [verdict().knows(word) for word in ("cat", "kitten", "red", "woman", "spaceship")] == [True] * 4 + [False]
