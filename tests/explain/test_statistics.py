"""Numbers about attention, against the same by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from probe.errors import BadInput, NotRecorded
from probe.explain.statistics import between_words, entropy, leakage, overlap, special_share
from probe.readings import Choice
from probe.trace import Trace
from tests.factories import make_trace


def drawn(maps: dict[str, np.ndarray], prompt: str) -> Trace:
    """A trace with one site and step whose words have these maps [2, 2]."""
    trace = make_trace(steps=1, words=tuple(maps), grids=((2, 2),))
    node = trace.tree["attention/2x2"].to_dataset().isel(site=[0])
    values = np.concatenate([np.stack(list(maps.values())), np.zeros((3, 2, 2))])
    node["attention"] = (node["attention"].dims, values[None, None, None, None].astype(np.float32))
    words, position = [], 0
    for word in trace.words:
        if word.label in maps:
            start = prompt.index(word.label, position)
            words.append(word.model_copy(update={"start": start, "end": start + len(word.label)}))
            position = start
    tree = trace.tree.copy()
    tree["attention/2x2"] = xr.DataTree(node)
    run = trace.run.model_copy(update={"prompts": (prompt,)})
    return replace(trace, run=run, words=tuple(words), tree=tree)


LEFT, RIGHT = np.array([[0.4, 0.0], [0.4, 0.0]]), np.array([[0.0, 0.1], [0.0, 0.1]])


def test_entropy_of_even_and_of_single_cells():
    one = np.zeros((2, 2))
    one[0, 1] = 0.3
    found = entropy(drawn({"cat": one, "dog": np.full((2, 2), 0.2), "owl": LEFT}, "cat dog owl"))
    np.testing.assert_allclose(found.isel(step=0), [0.0, 2.0, 1.0], atol=1e-6)
    assert (found.attrs["units"], found.attrs["even"]) == ("bits", 2.0)


def test_overlap_does_not_depend_on_amounts():
    found = overlap(drawn({"cat": LEFT, "dog": RIGHT, "owl": np.full((2, 2), 0.7)}, "cat dog owl"))
    np.testing.assert_allclose(found, [[1, 0, 0.5], [0, 1, 0.5], [0.5, 0.5, 1]], atol=1e-6)
    assert found.dims == ("word", "to_word")


def test_leakage_is_what_lies_where_another_noun_leads():
    leaks = np.array([[0.3, 0.1], [0.3, 0.1]])  # a quarter is on the right, where the dog is
    maps = {"red": leaks, "cat": LEFT, "blue": RIGHT, "dog": RIGHT}
    found = leakage(drawn(maps, "a red cat and a blue dog"))
    assert list(found["attribute"].values) == ["red", "blue"] and list(found["own"].values) == ["cat", "dog"]
    np.testing.assert_allclose(found, [[0.75, 0.25], [0.0, 1.0]], atol=1e-6)


def test_nothing_can_leak_without_attributes():
    with pytest.raises(BadInput, match="2 subjects and 0 attributes"):
        leakage(make_trace())


def test_special_tokens_and_words_make_the_whole():
    trace = make_trace()
    special = special_share(trace)
    assert list(special["word"].values) == ["<start>", "<end>", "<padding>"] and special.dims == ("step", "word")
    node = trace.node("attention/16x16")["attention"].sel(word=["cat", "balloon"])
    coarse = trace.node("attention/8x8")["attention"].sel(word=["cat", "balloon"])
    words = [n.mean(("site", "branch", "image", "y", "x")).sum("word") for n in (node, coarse)]
    np.testing.assert_allclose(special.sum("word") + (words[0] + words[1]) / 2, 1.0, atol=5e-3)
    with pytest.raises(NotRecorded, match="words="):
        special_share(trace.sel(word=["cat"]))


def test_words_among_themselves():
    trace, words = make_trace(), ["cat", "balloon"]
    share = np.arange(16.0).reshape(2, 2, 1, 1, 2, 2)
    coords = {"site": ["a", "b"], "step": [0, 1], "branch": ["cond"], "word": words, "to_word": words}
    tree = trace.tree.copy()
    tree["relations/text_to_text"] = xr.DataTree(
        xr.Dataset({"share": (("site", "step", "branch", "image", "word", "to_word"), share)}, coords)
    )
    found = between_words(replace(trace, tree=tree), choice=Choice())
    np.testing.assert_allclose(found, share.mean((0, 1))[0, 0])
    with pytest.raises(NotRecorded, match="text->text"):
        between_words(trace)
