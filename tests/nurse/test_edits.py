"""Edits of attention: formulas against explicit matrices, identities on real pipelines."""

import numpy as np
import pytest
import torch

from probe.errors import BadInput, NoSuchWord
from probe.intervention import AttentionIntervention, Seen
from probe.nurse import PromptToPrompt, ScaleAttention, StructuredDiffusion
from probe.nurse.align import refinement, replacement
from probe.nurse.edits import exchanged
from probe.words import Prompt, read_prompt
from tests.fingerprint import fingerprint
from tests.nurse.drawing import PROMPT, draw, drawn, pipe
from tests.tokenizers import clip_tokenizer

DOG = "a dog and a red balloon"


def prompt(text: str) -> Prompt:
    return read_prompt(text, {"text_encoder": clip_tokenizer()})


def probabilities(seed: int, rows: int = 6, columns: int = 77) -> torch.Tensor:
    return torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(seed)).double().softmax(-1)


def seen(text: str = PROMPT, source: str = PROMPT) -> tuple[Seen, torch.Tensor, torch.Tensor]:
    """(what an intervention sees, the row's own probabilities, those of the source)."""
    P, Q = probabilities(0), probabilities(1)
    values = torch.randn(2, 77, 5, generator=torch.Generator().manual_seed(2)).double()
    made = Seen(
        kind="cross",
        values=values,
        attend=lambda v: P @ v,
        prompt=prompt(text),
        encoder="text_encoder",
        source=lambda v: Q @ v,
        source_prompt=prompt(source),
    )
    return made, P, Q


def test_scaling_is_a_factor_on_the_word_s_columns():
    view, P, _ = seen()
    expected = P.clone()
    expected[..., list(view.columns("red"))] *= 2.5
    torch.testing.assert_close(ScaleAttention(factors={"red": 2.5}).change(view), expected @ view.values)


def test_replaced_probabilities_without_making_them():
    view, P, Q = seen("a dog and a red balloon")
    pairs = [(2, 2, 1.0), (4, 3, 0.5), (5, 3, 0.5)]
    M = torch.zeros(77, 77).double()
    for i, j, share in pairs:
        M[i, j] = share
    taken, kept = exchanged(view.values, pairs)
    own = torch.ones(77).double()
    own[[2, 3]] = 0
    torch.testing.assert_close(Q @ taken + P @ kept, (Q @ M + P * own) @ view.values)


def test_replacement_goes_word_by_word_and_refinement_by_equal_tokens():
    cat, dog = prompt(PROMPT), prompt(DOG)
    assert all(i == j and share == 1 for i, j, share in replacement(cat, dog, "text_encoder"))
    longer = prompt("a cat and a big red balloon")
    pairs = refinement(cat, longer, "text_encoder")
    shift = longer.columns("red", "text_encoder")[0] - cat.columns("red", "text_encoder")[0]
    assert shift == len(longer.columns("big", "text_encoder"))
    own = {j for _, j, _ in pairs}
    assert longer.columns("big", "text_encoder")[0] not in own
    assert (cat.columns("red", "text_encoder")[0], longer.columns("red", "text_encoder")[0], 1.0) in pairs
    with pytest.raises(BadInput, match="as many words in both"):
        replacement(cat, longer, "text_encoder")


def test_words_of_different_lengths_share_evenly():
    pairs = replacement(prompt("a cat"), prompt("a xylophonist"), "text_encoder")
    tokens = prompt("a xylophonist").columns("xylophonist", "text_encoder")
    assert len(tokens) > 1
    assert sum(share for i, _, share in pairs if i == 2) == pytest.approx(1.0)
    assert {j for i, j, _ in pairs if i == 2} == set(tokens)


class Same(AttentionIntervention):
    """Goes the whole way and changes nothing."""

    joint = True

    def due(self, kind: str, step: int, steps: int) -> bool:
        return True

    def change(self, seen: Seen) -> torch.Tensor:
        return seen.attend(seen.values)


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux1"])
def test_a_change_that_changes_nothing_is_the_plain_picture(family):
    plain = draw(family)  # what the pipeline itself sets on its first run is not ours
    before = fingerprint(pipe(family))["hooks"]
    np.testing.assert_allclose(draw(family, PROMPT, Same()), plain, atol=2e-5)
    assert fingerprint(pipe(family))["hooks"] == before


@pytest.mark.parametrize("family", ["sd1", "sd3"])
def test_a_word_that_is_heeded_less_changes_the_picture_and_one_leaves_it(family):
    plain = draw(family)
    assert np.array_equal(draw(family, PROMPT, ScaleAttention(factors={"cat": 1.0})), plain)
    weaker, recording = drawn(family, PROMPT, ScaleAttention(factors={"cat": 0.0}, last=0.5))
    assert np.abs(weaker - plain).max() > 1e-3
    assert recording.trace.extra["interventions"][0]["factors"] == {"cat": 0.0}


def test_the_same_prompt_twice_is_the_same_picture_twice():
    both = draw("sd1", [PROMPT, PROMPT], PromptToPrompt(mode="replace", cross=1.0, own=1.0, cells=10_000))
    np.testing.assert_allclose(both[1], both[0], atol=2e-5)
    np.testing.assert_allclose(both[0], draw("sd1", [PROMPT, PROMPT])[0], atol=2e-5)


@pytest.mark.parametrize("mode", ["replace", "refine"])
def test_an_edit_moves_the_edited_picture_alone(mode):
    plain = draw("sd1", [PROMPT, DOG])
    edited = draw("sd1", [PROMPT, DOG], PromptToPrompt(mode=mode, own=0.0))
    assert np.array_equal(edited[0], plain[0])
    assert np.abs(edited[1] - plain[1]).max() > 1e-4


def test_a_phrase_that_is_the_whole_prompt_changes_nothing():
    np.testing.assert_allclose(draw("sd1", PROMPT, StructuredDiffusion(phrases=(PROMPT,))), draw("sd1"), atol=2e-5)
    named = StructuredDiffusion(bindings={"cat": (), "balloon": ("red",)})
    assert named.texts == ("cat", "red balloon")
    changed = draw("sd1", PROMPT, named)
    assert np.abs(changed - draw("sd1")).max() > 1e-4


BAD = {
    "one prompt": (
        PromptToPrompt(mode="refine"),
        "sd1",
        PROMPT,
        BadInput,
        r"names prompt 1, and there are 1: give them in one",
    ),
    "joint": (PromptToPrompt(mode="refine"), "sd3", [PROMPT, DOG], BadInput, "SD3 has joint attention only"),
    "unknown word": (ScaleAttention(factors={"zebra": 2.0}), "sd1", PROMPT, NoSuchWord, "'zebra' is not in the prompt"),
    "last first": (
        ScaleAttention(factors={"cat": 5.0}, first=0.8, last=0.2),
        "sd1",
        PROMPT,
        BadInput,
        r"from first=0\.8 to before last=0\.2 of the steps, which are none; give first < last",
    ),
    "between steps": (
        ScaleAttention(factors={"cat": 5.0}, first=0.4, last=0.5),
        "sd1",
        PROMPT,
        BadInput,
        "none of the 3 of this run is there; put them further apart, or take more steps",
    ),
    "two factors": (
        ScaleAttention(factors={"cat": 5.0, "Cat": 0.0}),
        "sd1",
        PROMPT,
        BadInput,
        "^ScaleAttention has one word twice in factors",
    ),
    "no words": (ScaleAttention(), "sd1", PROMPT, BadInput, "has no words"),
    "itself": (PromptToPrompt(mode="refine", prompt=0), "sd1", PROMPT, BadInput, "needs two prompts"),
    "no phrases": (StructuredDiffusion(), "sd1", PROMPT, BadInput, "has no phrases"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_says_so(name):
    item, family, text, error, says = BAD[name]
    with pytest.raises(error, match=says):
        draw(family, text, item)
