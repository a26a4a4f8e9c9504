"""A part of a recorded trace keeps the numbers of its pictures, steps and states, and says what is not in it."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import probe
from probe.errors import NoMatch, NoSuchWord, NotRecorded, ProbeWarning
from probe.readings import Choice
from probe.trace import Trace
from tests import pipelines
from tests.test_trace import kept

CAT, DOG = "a cat", "a red dog"


@cache
def recorded(prompt: str | tuple[str, ...] = (CAT, DOG), each: int = 2, **options: Any) -> Trace:
    """Six steps of the tiny pipeline, `each` pictures a prompt."""
    pipe, asked = pipelines.pipeline("sd1"), prompt if isinstance(prompt, str) else list(prompt)
    negative = options.pop("negative_prompt", None)
    run: dict[str, Any] = {"negative_prompt": list(negative) if isinstance(negative, tuple) else negative}
    with probe.record(pipe, **options) as recording:
        pipelines.run(pipe, "sd1", prompt=asked, num_images_per_prompt=each, num_inference_steps=6, **run)
    return recording.trace


def everything() -> Trace:
    """A trace with nodes of every kind that a step or a picture is an axis of."""
    return recorded(keep="maps", heads=(0,), modules=("mid_block",), relations=("image->text", "image->image"))


def of_axis(trace: Trace, axis: str) -> dict[str, xr.Dataset]:
    nodes = {node.path: node.to_dataset() for node in trace.tree.subtree}
    return {path: node for path, node in nodes.items() if axis in node.dims}


def test_every_recorded_node_numbers_its_pictures_and_times():
    trace = everything()
    kinds = {path.split("/")[1] for path in of_axis(trace, "image")}
    assert kinds == {"attention", "heads", "guidance", "latents", "scheduler", "thumbnails", "modules", "relations"}
    assert [path for path, node in of_axis(trace, "image").items() if "image" not in node.coords] == []
    assert trace.node("latents")["time"].values.tolist() == list(range(7))


def test_a_picture_keeps_its_number_and_its_prompt():
    trace = everything()
    last = trace.sel(image=3)
    assert last.along("image") == (3,) and last.labels_of(0) == () and last.labels_of(3) == trace.labels_of(3)
    assert last.prompt == last.run.prompt_of(3) == DOG and trace.prompt == trace.sel(image=1).prompt == CAT
    assert last.shown(3) == last.pictures == (trace.pictures[3],)
    assert [word.label for word in last.words_of(3)] == DOG.split()
    ours, theirs = (probe.attention(one, "dog", image=3).values for one in (last, trace))
    assert np.array_equal(ours, theirs)
    assert list(probe.words_of_region(last, (0, 0, 1, 1), image=3).index) == list(
        probe.words_of_region(trace, (0, 0, 1, 1), image=3).index
    )
    assert len(probe.show.overlays(last, choice=Choice(image=3)).axes) > 2
    with pytest.raises(NotRecorded, match="image 0 was not recorded; this trace holds image 3"):
        probe.show.overlays(last)
    assert trace.sel(image=[2, 3]).sel(image=-1).tree.identical(last.tree)


def test_steps_of_a_part_are_the_same_steps():
    trace = everything()
    direct, again = trace.sel(step=3), trace.sel(step=slice(2, None)).sel(step=3)
    assert again.along("time") == (3, 4) and again.tree.identical(direct.tree)
    states = trace.node("latents")["latents"].values
    assert np.array_equal(again.node("latents")["latents"].values, states[3:5])
    late = trace.sel(step=slice(3, None)).sel(step=-1)
    assert late.along("step") == (5,) and np.array_equal(late.node("latents")["latents"].values, states[5:])


@pytest.mark.parametrize(("step", "image"), [([1, 4], [0, 3]), ([5], [2]), ([0, 1, 2], [1]), ([3], [0, 1, 2, 3])])
def test_sel_gives_of_a_recording_exactly_what_is_asked_for(step: list[int], image: list[int]):
    trace = everything()
    time = {t for s in step for t in (s, s + 1)}
    found = trace.sel(step=step, image=image, branch="cond")
    assert found.tree.identical(kept(trace, step=step, time=time, image=image, branch=["cond"]))
    assert found.pictures == tuple(trace.pictures[i] for i in image)


def test_a_trace_that_was_saved_without_these_numbers_opens_and_counts_from_zero(tmp_path: Path):
    trace = recorded()
    bare = {path: node.drop_vars(["image", "time"], errors="ignore") for path, node in of_axis(trace, "image").items()}
    old = probe.open(Trace(trace.run, (), (), trace.sites, xr.DataTree.from_dict(bare)).save(tmp_path / "old"))
    assert old.along("image") == (0, 1, 2, 3) and old.prompt == CAT
    part = old.sel(step=3, image=2)
    states = trace.node("latents")["latents"].values
    assert np.array_equal(part.node("latents")["latents"].values, states[3:5, 2:3])


def test_a_word_of_another_pictures_prompt_is_not_there():
    trace = recorded()
    assert trace.sel(word="dog", image=2).labels == trace.sel(word="dog", image=[0, 2]).labels == ("dog",)
    words = "the words of picture 0 are: cat, <start>, <end>, <padding>"
    with pytest.raises(NoMatch, match=f"'dog' has no readings for picture 0, of the prompt 'a cat'; {words}"):
        trace.sel(word="dog", image=0)
    with pytest.raises(NoMatch, match="'dog' has no readings for picture 1"):
        trace.sel(word=["cat", "dog"], image=1)


def test_a_step_inside_of_a_group_names_the_groups():
    trace = recorded(CAT, 1, groups=3, modules=("mid_block",), relations=("image->text", "image->image"))
    assert trace.along("step") == (0, 1, 2, 3, 4, 5)
    with pytest.raises(NoMatch, match=r"step 1 was not kept apart in /.*, which holds means .*: 0 \(2\), 2 \(2\), 4"):
        trace.sel(step=1)
    part = trace.sel(step=slice(1, 4))
    assert [node["step"].values.tolist() for node in part.attention_nodes()] == [[2]] * len(trace.attention_nodes())
    alone = recorded(CAT, 1, groups=3, relations=("image->image",))
    with pytest.raises(NoMatch, match="step 5 was not kept apart in /relations/image_to_image/mean"):
        alone.sel(step=-1)
    single = recorded(CAT, 1, steps=(0, 3))
    assert not single.sel(step=1).attention_nodes()


def test_labels_are_found_as_record_finds_them():
    trace = recorded("Café don’t cafÉ, a red dog", 1, words=("*", "red dog"))
    spelt = {"CAFE\u0301": "Café", "café#2": "cafÉ#2", "don't": "don’t", "Red Dog": "red dog", "RED": "red"}
    assert {name: trace.word(name) for name in spelt} == spelt
    assert trace.sel(word="café#2").labels == ("cafÉ#2",) and trace.word("<start>") == "<start>"
    others: tuple[Any, ...] = ("café#3", "start", "dog red", "", 3)
    for name in others:
        with pytest.raises(NoSuchWord, match="was not recorded; the words of this trace are: Café, "):
            trace.sel(word=name)


def test_a_word_of_the_negative_prompt_is_said_to_be_one(tmp_path: Path):
    asked = {"negative_prompt": "a dog", "words": ("cat", "dog"), "branches": ("cond", "negative")}
    trace = recorded(CAT, 1, **asked)
    said = (
        "'dog' has no readings for picture 0, branch 'cond', of the prompt 'a cat'; it is a word of the "
        "negative prompt 'a dog', which branch 'negative' reads; the words of picture 0, branch 'cond' are: cat$"
    )
    with pytest.raises(NoSuchWord, match=said):
        probe.attention(trace, "dog")
    with pytest.raises(NoMatch, match=said):
        trace.sel(word="dog", branch="cond")
    other = (
        "of the negative prompt 'a dog'; it is a word of the prompt 'a cat', which branch 'cond' reads; .* are: dog$"
    )
    with pytest.raises(NoSuchWord, match=other):
        probe.attention(trace, "cat", branch="negative")
    assert trace.sel(word="dog", branch="negative").labels == trace.sel(word="dog").labels == ("dog",)
    found = probe.open(trace.save(tmp_path / "trace"))
    assert found.equals(trace) and probe.verify(tmp_path / "trace").ok
    assert [word.label for word in found.negative_words] == ["a", "dog"]
    at = found.negative_words[1].tokens["text_encoder"][0]
    assert [token.word for token in found.negative_tokens if token.index == at] == ["dog"]


def test_words_of_negative_prompts_are_of_their_own_pictures():
    trace = recorded(negative_prompt=("a bird", ""))
    assert [(word.label, word.prompt) for word in trace.negative_words] == [("a", 0), ("bird", 0)]
    assert {token.prompt for token in trace.negative_tokens} == {0, 1}
    assert recorded().negative_words == recorded().negative_tokens == ()


def test_all_words_that_were_truncated_are_in_the_trace(tmp_path: Path):
    with pytest.warns(ProbeWarning, match=r"not all of: balloon, very#\d+ and \d+ more"):
        trace = recorded("a cat " + "very " * 90 + "balloon", 1)
    [lost] = trace.extra["fallen"]
    assert len(lost["text_encoder"]) > 8 and lost["text_encoder"][-1] == "balloon"
    assert probe.open(trace.save(tmp_path / "trace")).extra["fallen"] == [lost]
    assert "fallen" not in recorded().extra
