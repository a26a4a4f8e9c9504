"""The noun: its arithmetic, its folder, what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probe.concepts.concept import Concept
from probe.errors import BadInput, DamagedFile, NoSuchWord, OutputError
from tests import pipelines

MADE = Concept("a pet", ("cat", "dog", "<b>"), (0.6, 0.3, 0.1), {"text_encoder": 0.5})


def test_shares_and_order():
    concept = Concept("a pet", ("dog", "cat"), (1.0, 3.0), {})
    assert concept.shares == {"dog": 0.25, "cat": 0.75}
    assert concept.top(1) == ("cat",)
    assert concept["dog"] == 1.0
    assert repr(concept) == "Concept('a pet': cat 3, dog 1)"


def test_turning_a_coefficient():
    turned = MADE.scaled("cat", -0.5)
    assert turned.coefficients == (-0.3, 0.3, 0.1)
    assert turned.top(3) == ("dog", "<b>", "cat")
    assert turned.provenance["scaled"] == [["cat", -0.5]]
    assert MADE.coefficients == (0.6, 0.3, 0.1)
    assert MADE.without(["cat", "dog"]).coefficients == (0.0, 0.0, 0.1)


def test_what_it_refuses(pipe: Any):
    with pytest.raises(NoSuchWord, match="'cow' is not in this concept; its words are: cat, dog, <b>"):
        MADE.scaled("cow", 2)
    with pytest.raises(BadInput, match="got 1 words and 0 coefficients"):
        Concept("a pet", ("cat",), (), {})
    with pytest.raises(BadInput, match="all coefficients of 'a pet' are 0"):
        MADE.without(MADE.words).embed(pipe)
    with pytest.raises(NoSuchWord, match="'<b>' is 3 tokens in text_encoder of this pipeline"):
        MADE.embed(pipe)
    with pytest.raises(BadInput, match="learned for text_encoder, this pipeline also reads with text_encoder_2"):
        Concept("a pet", ("cat",), (1.0,), {"text_encoder": 0.5}).embed(pipelines.pipeline("sdxl"))


def test_one_word_alone_is_that_word_at_the_mean_norm(pipe: Any):
    alone = Concept("a pet", ("cat", "dog"), (0.0, 2.0), {"text_encoder": 0.5})
    token = pipe.tokenizer("dog", add_special_tokens=False).input_ids[0]
    row = pipe.text_encoder.get_input_embeddings().weight[token].detach()
    assert torch.allclose(alone.embed(pipe)["text_encoder"][0], row * 0.5 / row.norm(), atol=1e-6)


def test_turning_a_word_changes_the_picture(found: Concept, pipe: Any):
    call = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "latent"}

    def drawn(concept: Concept) -> torch.Tensor:
        with concept.spoken(pipe) as prompt:
            return pipe(prompt, generator=torch.Generator().manual_seed(0), **call).images

    word = found.words[0]
    assert torch.equal(drawn(found), drawn(found.scaled(word, 1.0)))
    assert not torch.equal(drawn(found), drawn(found.scaled(word, 0.5)))


def test_a_concept_lives_in_a_folder(found: Concept, tmp_path: Path):
    back = Concept.open(found.save(tmp_path / "c"))
    assert (back.prompt, back.words, back.coefficients, back.norms) == (
        found.prompt,
        found.words,
        found.coefficients,
        found.norms,
    )
    assert np.array_equal(back.losses, found.losses)
    assert back.settings["solver"] == "sparse"
    assert back.provenance["versions"] == found.provenance["versions"]
    pixels = {name: [each.tobytes() for each in shown] for name, shown in found.pictures.items()}
    assert {name: [each.tobytes() for each in shown] for name, shown in back.pictures.items()} == pixels
    with pytest.raises(OutputError, match="exists already"):
        found.save(tmp_path / "c")
    found.scaled(found.words[0], 2.0).save(tmp_path / "c", exist_ok=True)
    assert Concept.open(tmp_path / "c").pictures == {}


def test_what_is_no_concept_is_not_replaced(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="is not a concept and is not replaced"):
        MADE.save(tmp_path / "mine", exist_ok=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_damage_is_noticed(found: Concept, tmp_path: Path):
    folder = found.save(tmp_path / "c")
    with pytest.raises(DamagedFile, match=r"holds no concept\.json"):
        Concept.open(tmp_path)
    numbers = folder / "numbers.safetensors"
    good = numbers.read_bytes()
    numbers.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DamagedFile, match="does not match the hash"):
        Concept.open(folder)
    numbers.write_bytes(good[:-1])
    with pytest.raises(DamagedFile, match="bytes, expected"):
        Concept.open(folder)
    numbers.unlink()
    with pytest.raises(DamagedFile, match="is missing"):
        Concept.open(folder)


@pytest.mark.parametrize("place", ["../../secret.png", "/etc/secret.png", "pictures/../x.png"])
def test_a_foreign_path_is_not_read(place: str, tmp_path: Path):
    folder = MADE.save(tmp_path / "c")
    card = json.loads((folder / "concept.json").read_text())
    card["pictures"] = {"concept": [place]}
    card["files"][place] = card["files"]["numbers.safetensors"]
    (folder / "concept.json").write_text(json.dumps(card))
    with pytest.raises(DamagedFile, match="is not a file of a concept|is missing"):
        Concept.open(folder)


def test_in_a_notebook_foreign_text_stays_text():
    shown = MADE._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>Concept</b>" in shown
    assert "0.6" in shown
