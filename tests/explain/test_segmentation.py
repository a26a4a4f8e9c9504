"""Segmentation: the formula by hand, rivals by the prompt, and the rollout where there is no rival."""

from dataclasses import replace

import numpy as np
import pytest

import probe
from probe.errors import BadInput, NotRecorded
from probe.explain.edges import to_edges
from probe.explain.segmentation import contested, rivals
from probe.subjects import find_subjects
from tests.explain.test_rollout import N, with_relation
from tests.factories import make_trace


def test_a_contest_by_hand():
    r, o = np.array([1.0, 0.5, 0.2, 0.0]), np.array([0.0, 0.5, 0.4, 0.0])
    np.testing.assert_allclose(contested(r, [o]), [1.0, 0.25, 0.2 * 0.04 / 0.2, 0.0])
    np.testing.assert_allclose(contested(r, [o, o]), [1.0, 0.5 / 3, 0.2 * 0.04 / 0.36, 0.0])
    np.testing.assert_array_equal(contested(r, []), r)


def test_rivals_are_the_other_subjects():
    trace = make_trace()
    for word in trace.labels:
        assert word not in rivals(trace, word)
    subjects = [each.label for each in find_subjects(trace.run.prompts[0])]
    assert set(rivals(trace, subjects[0])) == set(subjects[1:]) & set(trace.labels) and len(subjects) > 1


def test_an_attribute_has_the_rivals_of_its_subject():
    trace = make_trace()
    for subject in find_subjects(trace.run.prompts[0]):
        for attribute in subject.attributes:
            assert rivals(trace, trace.word(attribute.text)) == rivals(trace, subject.label)


def test_it_is_the_late_rollouts_in_contest():
    P = np.random.default_rng(0).dirichlet(np.full(N, 0.1), size=N)
    trace = with_relation(P)
    found = probe.segmentation(trace, "cat", edges=False)
    maps = {
        w: probe.rollout(trace, w, steps=slice(2, None)).values.values for w in ["cat", *found.provenance["rivals"]]
    }
    units = {w: m / m.max() for w, m in maps.items()}
    own = units.pop("cat")
    np.testing.assert_allclose(found.values, contested(own, list(units.values())), atol=1e-6)
    assert found.provenance["steps"] == [2, 3] and units and not found.provenance["edges"]
    picture = trace.pictures[0]
    np.testing.assert_allclose(
        probe.segmentation(trace, "cat").values, to_edges(found.values.values, picture), atol=1e-5
    )
    assert probe.segmentation(trace, "cat", steps=0).provenance["steps"] == [0]


def test_where_no_other_subject_was_recorded_it_is_the_rollout():
    trace = with_relation(np.eye(N))
    run = trace.run.model_copy(update={"prompts": ("a cat",)})
    alone = probe.segmentation(replace(trace, run=run, pictures=()), "cat")
    own = probe.rollout(trace, "cat", steps=slice(2, None)).values
    np.testing.assert_allclose(alone.values, own / own.max(), atol=1e-6)
    assert alone.provenance["rivals"] == []


def test_it_says_what_to_record():
    with pytest.raises(NotRecorded, match="image->image:low-rank"):
        probe.segmentation(make_trace(), "cat")


def test_words_that_name_nothing_are_refused():
    trace = with_relation(np.eye(N))
    with pytest.raises(
        BadInput, match=r"'<start>' names nothing that could be seen; .* words of content: cat, balloon"
    ):
        probe.segmentation(trace, "<start>")
    small = tuple(word.model_copy(update={"content": word.label != "cat"}) for word in trace.words)
    with pytest.raises(BadInput, match=r"'cat' names nothing that could be seen; .* words of content: balloon"):
        probe.segmentation(replace(trace, words=small), "cat")
