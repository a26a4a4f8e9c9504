"""Which words one picture needs: in batches as one by one."""

from typing import Any

import numpy as np
import pytest

from probe.concepts.concept import Concept
from probe.concepts.eyes import Eyes
from probe.concepts.single import prune
from probe.generator import weights
from probe.generator.tokenizer import build
from tests.concepts.conftest import small
from tests.fingerprint import fingerprint

PET = Concept("a red balloon", ("dog", "bear", "blue", "clock"), (0.9, 0.5, 0.2, 0.01), {"text_encoder": 0.6})


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes(weights.clip(), build())


def test_a_batch_removes_what_one_by_one_removes(pipe: Any, eyes: Eyes):
    before = fingerprint(pipe)
    alone, batched = (prune(pipe, PET, eyes, keep=0.9999, recipe=small(batch=n)) for n in (1, 3))
    assert alone.concept.words == batched.concept.words
    assert alone.removed == batched.removed
    assert set(alone.removed) | set(alone.concept.words) == set(PET.words)
    assert fingerprint(pipe) == before


def test_nothing_goes_where_nothing_may_change(pipe: Any, eyes: Eyes):
    kept = prune(pipe, PET, eyes, keep=2.0, recipe=small(batch=4))
    assert kept.removed == ()
    assert np.array_equal(np.asarray(kept.picture), np.asarray(kept.target))
    assert kept.likeness == pytest.approx(1.0, abs=1e-5)


def test_where_all_may_change_one_word_is_left(pipe: Any, eyes: Eyes):
    kept = prune(pipe, PET, eyes, keep=-1.0, recipe=small(batch=4))
    assert kept.concept.words == ("dog",)
    assert len(kept.removed) == 3
