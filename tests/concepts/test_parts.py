"""The parts of a decomposition against oracles: the hook, the noise, the simplex, least squares, the vocabulary."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from probe.attach.model.prediction import Level
from probe.concepts.own import Own, draw, own_pictures, target
from probe.concepts.pseudo_token import blank, check_expressible, encoders, filled, gap, own_words
from probe.concepts.recipe import Recipe, recipe_of
from probe.concepts.reconstruction import Bench, borrowed
from probe.concepts.solver import nonnegative
from probe.concepts.sparse import STRIDE, Sparse, close, even, onto_simplex
from probe.concepts.vocabulary import (
    Vocabulary,
    limited,
    nearest,
    norms,
    own_vectors,
    trained,
    vocabulary,
    whole_words,
)
from probe.errors import DamagedFile, NoMatch, RecordingError
from tests import pipelines, tokenizers
from tests.concepts.conftest import small


def test_a_vector_in_the_gap_is_the_word_itself(pipe: Any):
    heard = encoders(pipe)
    hole = gap("a cat", "a photo of {}", heard)
    assert hole.text == "a photo of a *"
    words = whole_words(heard[0])
    row = heard[0].table.weight[words["dog"]][None]
    plain = pipe.encode_prompt("a photo of a dog", "cpu", 1, False)[0]
    with filled(hole, heard, {"text_encoder": row}):
        spoken = pipe.encode_prompt(hole.text, "cpu", 1, False)[0]
    assert torch.equal(plain, spoken)
    assert not torch.equal(plain, pipe.encode_prompt(hole.text, "cpu", 1, False)[0])


def test_a_gap_that_was_never_read_is_an_error(pipe: Any):
    heard = encoders(pipe)
    hole = gap("a cat", "a photo of {}", heard)
    with (
        pytest.raises(RecordingError, match="text_encoder never read the symbol of 'a photo of a"),
        filled(hole, heard, own_vectors(heard, "a cat")),
    ):
        pipe.encode_prompt("a photo of a dog", "cpu", 1, False)


def test_every_row_may_have_a_vector_of_its_own(pipe: Any):
    heard = encoders(pipe)
    hole = gap("a cat", "a photo of {}", heard)
    words = whole_words(heard[0])
    rows = heard[0].table.weight[[words["dog"], words["bear"]]]
    with filled(hole, heard, {"text_encoder": rows}):
        spoken = pipe.encode_prompt([hole.text] * 2, "cpu", 1, False)[0]
    plain = pipe.encode_prompt(["a photo of a dog", "a photo of a bear"], "cpu", 1, False)[0]
    assert torch.equal(spoken, plain)


@pytest.mark.parametrize(("prompt", "text"), [("an animal", "of a *"), ("happiness", "of *"), ("a", "of *")])
def test_the_article_stays(prompt: str, text: str):
    assert blank(prompt, "of {}", "*") == text


def test_own_words_have_no_article():
    assert own_words("A red Cat") == ["red", "cat"]
    assert own_words("a") == ["a"]


@pytest.mark.parametrize("family", ["sd1", "sd3", "flux1", "qwen_image"])
def test_words_are_whole(family: str):
    for encoder in encoders(pipelines.pipeline(family)):
        words = whole_words(encoder, 3)
        assert {"cat", "dog", "red"} <= set(words)
        assert all(word.isalpha() and "</w>" not in word for word in words)
        assert all(encoder.ids(f"a {word}")[-1] == i for word, i in words.items())


def test_the_closest_words_are_kept(pipe: Any):
    heard = encoders(pipe)
    held = vocabulary(heard, "a red balloon", small())
    close = nearest(held, own_vectors(heard, "a red balloon"))
    own = own_vectors(heard, "a red balloon")["text_encoder"][0].double()
    table = held.tables["text_encoder"].double()
    by_hand = (table @ own) / (table.norm(dim=1) * own.norm())
    assert np.allclose(close, by_hand.numpy(), atol=1e-6)
    best = {held.words[i] for i in np.argsort(-close)[:3]}
    assert set(limited(held, close, 3).words) == best
    assert limited(held, close, 99) is held


def test_own_vector_is_the_mean_of_its_tokens(pipe: Any):
    heard = encoders(pipe)
    words = whole_words(heard[0])
    mean = heard[0].table.weight[[words["red"], words["balloon"]]].mean(0)
    assert torch.allclose(own_vectors(heard, "a red balloon")["text_encoder"][0], mean)


def test_expressible_prompts_are_stripped(pipe: Any):
    assert check_expressible("  a cat ", encoders(pipe)) == "a cat"


def test_noise_and_aim_of_a_draw():
    own = Own(
        torch.ones(1, 2, 4, 4), (Level("v_prediction", 0.6, 0.8), Level("v_prediction", 0.8, 0.6)), (900.0, 100.0)
    )
    drawn = draw(own, (1,), 3)
    alpha = torch.where(drawn.told == 900, 0.6, 0.8)[:, None, None, None]
    sigma = torch.where(drawn.told == 900, 0.8, 0.6)[:, None, None, None]
    noise = (drawn.x - alpha) / sigma
    assert torch.allclose(drawn.target, alpha * noise - sigma, atol=1e-6)
    assert torch.equal(draw(own, (1,), 3).x, drawn.x)
    assert not torch.equal(draw(own, (2,), 3).x, drawn.x)
    assert set(draw(own, (1,), 8, noisiest=0.5).told.tolist()) == {900.0}


def test_aims_of_all_kinds():
    x0, noise, alpha, sigma = (torch.tensor([value]) for value in (2.0, 3.0, 0.6, 0.8))
    kinds = {"epsilon": 3.0, "sample": 2.0, "v_prediction": 0.6 * 3 - 0.8 * 2, "flow": 1.0}
    found = {kind: float(target(kind, x0, noise, alpha, sigma)) for kind in kinds}
    assert found == pytest.approx(kinds)


@pytest.mark.parametrize("family", ["sd1", "sd3"])
def test_own_pictures_come_with_the_noise_levels_of_the_pipeline(family: str):
    pipe = pipelines.pipeline(family)
    own, pictures = own_pictures(pipe, "a photo of a cat", small(pictures=3))
    assert len(own.latents) == len(pictures) == 3
    assert len(own.levels) == len(own.told) == 2
    assert own.told[0] > own.told[1]
    assert own.levels[0].sigma > own.levels[1].sigma
    noise = torch.Generator().manual_seed(2)
    call = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "latent", "generator": noise}
    alone = pipe("a photo of a cat", **call).images
    assert torch.allclose(own.latents[2:], alone.float(), atol=1e-4)


@pytest.fixture
def bench(pipe: Any):
    heard, recipe = encoders(pipe), small()
    words = vocabulary(heard, "a cat", recipe)
    own, _ = own_pictures(pipe, "a photo of a cat", recipe)
    hole, origin = gap("a cat", recipe.template, heard), own_vectors(heard, "a cat")
    made = Bench(pipe, hole, "a photo of a cat", heard, words, origin, own, recipe)
    with borrowed(pipe, heard):
        yield made


def test_the_concepts_own_word_answers_as_its_prompt(bench: Bench):
    drawn = bench.draw(0, 2)
    with torch.no_grad():
        assert torch.equal(bench.answer(drawn, bench.origin), bench.answer(drawn, None))
        assert float(bench.loss(bench.aimed(drawn), bench.origin)) == 0.0


def test_the_answer_is_the_denoisers(bench: Bench):
    drawn = bench.draw(0, 2)
    states = bench.pipe.encode_prompt("a photo of a cat", "cpu", 2, False)[0]
    with torch.no_grad():
        plain = bench.pipe.unet(drawn.x, drawn.told, encoder_hidden_states=states).sample
        assert torch.allclose(bench.answer(drawn, None), plain, atol=1e-6)


def test_the_gradient_is_that_of_the_loss(bench: Bench):
    drawn = bench.draw(0, 2)
    alpha = torch.full((len(bench.words.words),), 0.2)
    step = torch.zeros_like(alpha).index_fill(0, torch.tensor([1]), 0.02)
    leaf = alpha.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bench.loss(drawn, bench.words.mix(leaf)), leaf)
    with torch.no_grad():
        up, down = (bench.loss(drawn, bench.words.mix(alpha + s)) for s in (step, -step))
    assert float(gradient[1]) == pytest.approx(float(up - down) / 0.04, rel=0.1, abs=1e-4)


def test_the_nearest_words_by_their_cosines_are_where_a_search_begins(bench: Bench):
    cosines = torch.from_numpy(nearest(bench.words, bench.origin)).double()
    best = cosines.argsort(descending=True)[:2]
    expected = torch.zeros_like(cosines)
    expected[best] = cosines[best].clamp(min=0) / cosines[best].clamp(min=0).sum()
    assert torch.allclose(close(bench, 2).double(), expected, atol=1e-6)
    away = replace(bench, origin={name: -table.sum(0, keepdim=True) for name, table in bench.words.tables.items()})
    assert torch.equal(close(away, 99), even(len(bench.words.words)))


def test_a_search_ends_nearer_to_the_concept_than_it_began(bench: Bench):
    hand = Sparse(bench, small(steps=30))
    fresh = [bench.aimed(bench.draw(1000 + i, 4)) for i in range(4)]

    def apart() -> float:
        with torch.no_grad():
            return sum(float(bench.loss(drawn, bench.words.mix(hand.coefficients()))) for drawn in fresh)

    before = apart()
    for i in range(30):
        hand.step(i)
    assert apart() < before
    assert float(hand.coefficients().sum()) == pytest.approx(1)


def test_a_near_word_moves_first(bench: Bench):
    hand = Sparse(bench, small(steps=30))
    hand.near = torch.zeros_like(hand.near).index_fill(0, torch.tensor([0, 2]), 0.5)
    hand.alpha = hand.near.clone()
    hand.step(0)
    moved = hand.coefficients() - hand.near
    assert moved.abs().max() == pytest.approx(STRIDE)
    assert moved[0] == pytest.approx(-float(moved[2]), abs=1e-6)
    assert set(moved.nonzero().flatten().tolist()) == {0, 2}


def test_simplex_projection():
    assert torch.allclose(onto_simplex(torch.tensor([0.5, 0.2, -1.0])), torch.tensor([0.65, 0.35, 0.0]))
    assert torch.equal(onto_simplex(torch.tensor([3.0, 0.0])), torch.tensor([1.0, 0.0]))
    point = onto_simplex(torch.randn(50, generator=torch.Generator().manual_seed(0)))
    assert float(point.sum()) == pytest.approx(1.0)
    assert float(point.min()) == 0.0


def test_least_squares_finds_a_known_mixture():
    table = torch.randn(6, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha = torch.tensor([0.7, 0.0, 0.3, 0.0, 2.0, 0.0], dtype=torch.float64)
    found = nonnegative(table @ table.T, table @ (alpha @ table))
    assert torch.allclose(found.double(), alpha, atol=1e-6)
    against = nonnegative(table @ table.T, -(table @ (alpha @ table)))
    assert bool((against >= 0).all())


def test_words_that_were_hardly_trained_are_left_out_unless_they_are_named():
    heard = encoders(pipelines.load("sd1"))
    every = vocabulary(heard, "a red cat", Recipe(trained=0.0)).words
    assert vocabulary(heard, "a red cat", Recipe()).words == every  # untrained, all are as long as each other
    with torch.no_grad():
        for encoder in heard:
            encoder.table.weight[whole_words(encoder)["dog"]] *= 0.1
    assert vocabulary(heard, "a red cat", Recipe()).words == tuple(word for word in every if word != "dog")
    assert set(vocabulary(heard, "a red cat", Recipe(words=("dog", "bear"))).words) == {"dog", "bear"}


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_the_share_of_the_median_length_is_a_share(share: float):
    with pytest.raises(ValidationError, match=rf"trained={share:g} is not a fraction of the median .* give 0 \(all"):
        Recipe(trained=share)
    with pytest.raises(DamagedFile, match="trained="):
        recipe_of({"trained": share})
    assert Recipe(trained=1).trained == 1


def test_where_each_word_is_hardly_trained_in_some_encoder_none_is_left():
    lengths = {"one": (1.0, 1.0, 0.1), "two": (0.1, 1.0, 1.0), "three": (1.0, 0.1, 1.0)}
    tables = {name: torch.tensor(each)[:, None] for name, each in lengths.items()}
    held = Vocabulary(("cat", "dog", "owl"), tables, norms(tables))
    assert trained(held, 0.05).words == held.words
    with pytest.raises(NoMatch, match="no word of 3 has an embedding of 0.5 x the median length or more in each of on"):
        trained(held, 0.5)


def test_a_ridge_shares_out_among_words_that_answer_alike():
    one, other = torch.eye(2, 40, dtype=torch.float64)
    table = torch.stack([one, one + 1e-3 * other, one - 1e-3 * other, other])
    aim = table @ (one + 5e-4 * other)
    bare, shared = (nonnegative(table @ table.T, aim, ridge=ridge) for ridge in (0.0, 0.03))
    assert int((bare > 1e-3).sum()) < 3
    assert torch.allclose(shared[:3], shared[:3].mean().expand(3), rtol=0.01) and float(shared[3]) < 0.001
    assert float(shared.sum()) == pytest.approx(3 / (3 + 0.03), abs=1e-3)


def test_whole_words_of_tokenizers_that_spell_the_space():
    tokenizer = tokenizers.qwen_tokenizer()
    assert len(tokenizer("a cat").input_ids) == 2
