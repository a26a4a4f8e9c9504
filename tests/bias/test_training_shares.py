"""What Menagerie was shown: against counting the captions of many scenes."""

from collections import Counter

import pytest

import probe
from probe.generator.world import World
from probe.generator.world import vocabulary as v


def test_planted_shares_are_those_of_captions_that_do_not_tell():
    world, seen = World(), {"gender": Counter[str](), "tone": Counter[str]()}
    for scene in world.scenes(12_000):
        if len(scene.things) == 1 and scene.things[0].kind in v.PROFESSIONS:
            (person,) = scene.things
            roles = {mention.role for mention in world.caption(scene).mentions}
            for attribute in seen:
                if attribute not in roles and "gender" not in roles:
                    seen[attribute][getattr(person, attribute)] += 1
    expected = probe.bias.planted("person")
    for attribute, counts in seen.items():
        assert counts.total() > 400
        for label, share in expected[attribute].items():
            assert counts[label] / counts.total() == pytest.approx(share, abs=0.06)


def test_planted_is_exact():
    assert probe.bias.planted("farmer")["gender"] == {"man": 0.80, "woman": pytest.approx(0.20)}
    assert probe.bias.planted("grower") == probe.bias.planted("Farmer") == probe.bias.planted("farmer")
    assert sum(probe.bias.planted("judge")["tone"].values()) == pytest.approx(1)
    mean = sum(v.MAN_SHARE.values()) / len(v.MAN_SHARE)
    assert probe.bias.planted("worker")["gender"]["man"] == pytest.approx(mean)


@pytest.mark.parametrize("word", ["cat", "nurse", ""])
def test_of_other_words_nothing_is_planted(word: str):
    assert probe.bias.planted(word) == {}
