"""Decomposing: every solver on every kind of text encoder; nothing is left behind; it can be stopped and resumed."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probe.concepts.baselines import BASELINES
from probe.concepts.concept import CONCEPT, DECOMPOSITION, Concept
from probe.concepts.decompose import SOLVERS, decompose
from probe.concepts.pseudo_token import encoders
from probe.concepts.vocabulary import whole_words
from probe.errors import BadInput, BadPrompt, NoMatch, ProbeWarning
from tests import pipelines
from tests.concepts.conftest import WORDS, small
from tests.fingerprint import fingerprint


@pytest.mark.parametrize("solver", [*SOLVERS, *BASELINES])
def test_every_solver_gives_words_with_coefficients(solver: str, pipe: Any):
    found = decompose(pipe, "a red cat", solver=solver, recipe=small())
    assert set(found.words) <= set(WORDS) - {"cat"}
    assert all(value > 0 for value in found.coefficients)
    assert list(found.coefficients) == sorted(found.coefficients, reverse=True)
    assert len(found.losses) == 2
    assert found.settings["solver"] == solver


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
@pytest.mark.parametrize("solver", ["conceptor", "closed"])
def test_several_encoders_share_one_set_of_coefficients(family: str, solver: str):
    pipe = pipelines.pipeline(family)
    found = decompose(pipe, "a red cat", solver=solver, recipe=small(steps=1))
    vectors = found.embed(pipe)
    assert list(vectors) == list(found.norms) == [encoder.name for encoder in encoders(pipe)]
    for encoder in encoders(pipe):
        ids = [whole_words(encoder)[word] for word in found.words]
        table = encoder.table.weight.detach().double()
        expected = torch.tensor(found.coefficients, dtype=torch.float64) @ table[ids]
        expected *= found.norms[encoder.name] / expected.norm()
        assert torch.allclose(vectors[encoder.name][0].double(), expected, atol=1e-5)


@pytest.mark.parametrize("solver", ["conceptor", "sparse"])
def test_nothing_is_left_behind(solver: str, pipe: Any):
    before = fingerprint(pipe)
    decompose(pipe, "a red cat", solver=solver, recipe=small(show=1, show_words=1))
    assert fingerprint(pipe) == before


def test_nothing_is_left_behind_when_it_is_interrupted(pipe: Any):
    before = fingerprint(pipe)

    def stop(done: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decompose(pipe, "a red cat", solver="sparse", recipe=small(), progress=stop)
    assert fingerprint(pipe) == before


@pytest.mark.parametrize("solver", ["conceptor", "sparse", "closed", "pez"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(solver: str, pipe: Any, tmp_path: Path):
    recipe = small(steps=4, save_every=2)
    whole = decompose(pipe, "a red cat", solver=solver, recipe=recipe)

    def stop(done: int, total: int, loss: float) -> None:
        if total == 4 and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decompose(pipe, "a red cat", solver=solver, recipe=recipe, checkpoint=tmp_path / "c", progress=stop)
    told: list[int] = []
    resumed = decompose(
        pipe,
        "a red cat",
        solver=solver,
        recipe=recipe,
        checkpoint=tmp_path / "c",
        progress=lambda done, total, loss: told.append(done),
    )
    assert told == [3, 4]
    assert resumed.words == whole.words
    assert resumed.coefficients == whole.coefficients
    assert np.array_equal(resumed.losses, whole.losses)


def test_progress_of_another_question_is_refused(pipe: Any, tmp_path: Path):
    decompose(pipe, "a red cat", solver="nearest", recipe=small(), checkpoint=tmp_path / "c")
    with pytest.raises(BadInput, match="holds the progress of another decomposition: its prompt is 'a red cat'"):
        decompose(pipe, "a red dog", solver="nearest", recipe=small(), checkpoint=tmp_path / "c")


def test_pictures_are_of_equal_seeds(found: Concept, pipe: Any):
    assert {name: len(shown) for name, shown in found.pictures.items()} == {
        CONCEPT: 2,
        DECOMPOSITION: 2,
        f"a {found.words[0]}": 1,
    }
    seeds = [torch.Generator().manual_seed(1_000_000 + i) for i in range(2)]
    with found.spoken(pipe) as prompt:
        again = pipe([prompt] * 2, num_inference_steps=2, height=64, width=64, generator=seeds).images
    assert [each.tobytes() for each in again] == [each.tobytes() for each in found.pictures[DECOMPOSITION]]


def test_same_seed_same_concept(pipe: Any):
    first, second = (decompose(pipe, "a cat", recipe=small()) for _ in range(2))
    assert first.coefficients == second.coefficients
    assert first.words == second.words


@pytest.mark.parametrize(
    ("prompt", "more", "error", "told"),
    [
        (" ", {}, BadPrompt, "cannot be expressed by the tokenizer of text_encoder: it gives no tokens"),
        ("a cat", {"words": ("cat",)}, NoMatch, "no word is left for 'a cat': the text encoders share"),
        ("a cat", {"words": ()}, NoMatch, "of which words= allows 0"),
        ("a cat", {"letters": 40}, NoMatch, "share 0 whole words of 40 letters or more (such as none)"),
        ("a cat", {"template": "{}{}"}, BadPrompt, "the template '{}{}' has 2 places for the concept, expected one {}"),
        ("a cat", {"template": "* & + ~ x z q {}"}, BadPrompt, "leaves no symbol of"),
    ],
)
def test_what_cannot_be_decomposed(prompt: str, more: dict[str, Any], error: type[Exception], told: str, pipe: Any):
    with pytest.raises(error, match=re.escape(told)):
        decompose(pipe, prompt, recipe=small(**more))


def test_an_unknown_solver_lists_the_known_ones(pipe: Any):
    with pytest.raises(BadInput, match=r"no solver 'magic'; there are: conceptor, sparse, closed, mixture, nearest"):
        decompose(pipe, "a cat", solver="magic")


def test_unknown_tokens_are_not_a_concept():
    with pytest.raises(BadPrompt, match="of text_encoder_3: it gives unknown tokens only"):
        decompose(pipelines.pipeline("sd3"), "\u2603", recipe=small())


def test_a_word_in_pieces_is_warned_of(pipe: Any):
    with pytest.warns(ProbeWarning, match="'zyxwv' is spelt in 5 pieces"):
        decompose(pipe, "a zyxwv", solver="nearest", recipe=small())


def test_writing_without_spaces_is_heard_character_by_character(pipe: Any):
    with pytest.warns(ProbeWarning) as told:
        decompose(pipe, "日本", solver="nearest", recipe=small())
    assert [str(each.message).partition(":")[0] for each in told] == [f"{c!r} is spelt in 3 pieces" for c in "日本"]
