"""A trace says what it holds, and gives the part that is asked for."""

import html.parser
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import probe
from probe.errors import NoMatch, NoSuchWord, NotRecorded
from probe.trace import Trace
from tests.factories import make_film, make_trace

STEPS, IMAGES = 6, 3
TRACE = make_trace(steps=STEPS, images=IMAGES, branches=("cond", "uncond"), size=32)
PATHS = [site.path for site in TRACE.sites]


def kept(trace: Trace, **wanted: Any) -> xr.DataTree:
    """The oracle: entry by entry, without any of the code under test."""
    nodes: dict[str, xr.Dataset] = {}
    for node in trace.tree.leaves:
        dataset = node.to_dataset()
        for axis, entries in wanted.items():
            if axis in dataset.dims:
                dataset = dataset.sel({axis: [entry for entry in dataset[axis].values if entry in entries]})
        if all(dataset.sizes.values()):
            nodes[node.path] = dataset
    return xr.DataTree.from_dict(nodes)


def part(size: int) -> st.SearchStrategy[Any]:
    """A number, several, or a slice, each also counted from the end."""
    number = st.integers(-size, size - 1)
    several = st.lists(number, min_size=1, max_size=size)
    return st.one_of(st.none(), number, several, st.slices(size).filter(lambda s: len(range(size)[s]) > 0))


def numbers(asked: Any, size: int) -> list[int]:
    """Which numbers a list of `size` entries gives for the same request."""
    if isinstance(asked, int):
        return [range(size)[asked]]
    return [range(size)[i] for i in asked] if isinstance(asked, list) else list(range(size)[asked])


@settings(max_examples=60)
@given(
    part(STEPS),
    part(IMAGES),
    st.none() | st.sampled_from(TRACE.labels) | st.lists(st.sampled_from(TRACE.labels), min_size=1),
    st.none() | st.lists(st.sampled_from(PATHS), min_size=1),
    st.sampled_from([None, "cond", "uncond", ("cond", "uncond")]),
)
def test_sel_gives_exactly_what_is_asked_for(step: Any, image: Any, word: Any, site: Any, branch: Any) -> None:
    found = TRACE.sel(step=step, image=image, word=word, site=site, branch=branch)
    wanted: dict[str, Any] = {}
    if step is not None:
        wanted["step"] = numbers(step, STEPS)
        wanted["time"] = {t for s in wanted["step"] for t in (s, s + 1)}
    if image is not None:
        wanted["image"] = numbers(image, IMAGES)
    wanted |= {"word": [word] if isinstance(word, str) else word} if word is not None else {}
    wanted |= {"site": site} if site is not None else {}
    wanted |= {"branch": [branch] if isinstance(branch, str) else branch} if branch is not None else {}
    assert found.tree.identical(kept(TRACE, **wanted))
    assert found.sites == tuple(s for s in TRACE.sites if site is None or s.path in site)
    assert found.pictures == tuple(p for i, p in enumerate(TRACE.pictures) if i in wanted.get("image", range(IMAGES)))
    assert (found.run, found.words, found.tokens) == (TRACE.run, TRACE.words, TRACE.tokens)


def test_sel_of_a_sel_keeps_the_numbers() -> None:
    late = TRACE.sel(step=slice(3, None), image=[1, 2])
    assert late.along("step") == (3, 4, 5) and late.along("time") == (3, 4, 5, 6)
    assert late.sel(step=4, image=2).tree.identical(TRACE.sel(step=4, image=2).tree)
    assert late.sel(image=2).pictures == (TRACE.pictures[2],)
    with pytest.raises(NoMatch, match="image 0 was not recorded; there are: 1, 2"):
        late.sel(image=0)


def test_sel_takes_numbers_of_numpy() -> None:
    assert TRACE.sel(step=np.int64(-1)).tree.identical(TRACE.sel(step=-1).tree)
    assert TRACE.sel(step=np.array([0, -1])).along("step") == (0, 5)
    assert TRACE.sel(image=np.int32(-1)).pictures == TRACE.pictures[-1:]


def test_a_film_is_shown_and_selected_whole() -> None:
    films = make_film(frames=2, r=4, images=2)
    assert len(films.pictures) == 10
    assert films.shown(1) == films.pictures[5:]
    assert films.sel(image=1).pictures == films.sel(image=1).shown(1) == films.pictures[5:]
    assert films.shown(2) == films.sel(image=1).shown(0) == ()


def test_sel_finds_words_as_people_write_them() -> None:
    assert TRACE.sel(word="Cat").labels == ("cat",)
    assert TRACE.sel(word=["balloon", "<start>"]).labels == ("balloon", "<start>")


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"word": "dog"}, NoSuchWord, "'dog' was not recorded; the words of this trace are: cat, balloon, <start>"),
        ({"word": "and"}, NoSuchWord, "'and' was not recorded"),
        ({"word": []}, NoMatch, "no node of this trace holds word"),
        ({"step": 99}, NoMatch, "step 99 was not recorded; there are: 0, 1, 2, 3, 4, 5"),
        ({"step": slice(50, 60)}, NoMatch, r"step slice\(50, 60, None\) was not recorded"),
        ({"step": [1, 99]}, NoMatch, "step 99"),
        ({"step": []}, NoMatch, r"step \[\] was not recorded"),
        ({"step": 1.5}, NoMatch, r"step 1\.5 was not recorded"),
        ({"image": -4}, NoMatch, "image -4 was not recorded; there are: 0, 1, 2"),
        ({"branch": "con"}, NoMatch, "branch 'con' was not recorded; there are: cond, uncond"),
        ({"branch": slice(0, 1)}, NoMatch, "branch slice"),
        ({"site": "no_such_block"}, NoMatch, "no site matches pattern='no_such_block'.*there are:"),
    ],
)
def test_sel_says_what_there_is(asked: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"(?s){message}"):
        TRACE.sel(**asked)


def test_sel_of_parts_that_never_meet() -> None:
    tree = TRACE.tree.copy()
    tree["attention/8x8"] = xr.DataTree(tree["attention/8x8"].to_dataset().isel(step=[0, 1]))
    trace = replace(TRACE, tree=tree)
    coarse = [site.path for site in TRACE.sites if site.grid == (8, 8)]
    with pytest.raises(NoMatch, match=r"no node of this trace holds site .* with all else that was asked for"):
        trace.sel(site=coarse, step=5)


def test_sel_says_where_the_branch_of_a_word_rested() -> None:
    tree = TRACE.tree.copy()
    for path in tree["attention"].children:
        node = tree["attention"][path].to_dataset()
        ran = (node["branch"] != "uncond") | (node["step"] < 2)
        tree[f"attention/{path}"] = xr.DataTree(node.assign(attention=node["attention"].where(ran)))
    trace = replace(TRACE, tree=tree)
    assert trace.sel(branch="uncond", word="cat", step=[1, 2]).along("step") == (1, 2)
    later: list[dict[str, Any]] = [{"step": 3}, {"step": slice(2, None), "image": 1}]
    for asked in later:
        with pytest.raises(NoMatch, match="'cat' was not read for picture .* 'uncond' at these steps.*choose of 0, 1$"):
            trace.sel(branch="uncond", word="cat", **asked)
    alone = trace.sel(branch="uncond")
    with pytest.raises(NoMatch, match="at these steps, where no branch ran that has it: choose of 0, 1"):
        alone.sel(word="cat", step=-1)
    with pytest.raises(NoSuchWord, match="branch 'uncond' at these steps.*choose of 0, 1"):
        probe.attention(trace, "cat", branch="uncond", steps=[3])


def test_sel_on_nodes_without_labels() -> None:
    tree = xr.DataTree.from_dict({"/latents": xr.Dataset({"latents": (("time", "x"), np.arange(6).reshape(3, 2))})})
    tree["steps"] = xr.DataTree(xr.Dataset({"value": ("step", np.arange(2))}))
    found = replace(TRACE, tree=tree).sel(step=1)
    assert found.tree["latents/latents"].values.tolist() == [[2, 3], [4, 5]]
    assert found.tree["steps/value"].values.tolist() == [1]


def test_a_node_that_is_not_there() -> None:
    assert TRACE.node("/latents").identical(TRACE.node("latents"))
    with pytest.raises(NotRecorded, match="holds no 'modules'; it holds /guidance, /latents"):
        TRACE.node("modules")


def test_attention_nodes_go_from_coarse_to_fine() -> None:
    assert [node.sizes["y"] for node in TRACE.attention_nodes()] == [8, 16]
    assert replace(TRACE, tree=xr.DataTree()).labels == ()


def test_to_xarray_says_what_was_run() -> None:
    tree = TRACE.to_xarray()
    assert tree.attrs == {"prompt": "a cat and a balloon", "model": "menagerie", "seed": 0}
    assert TRACE.tree.attrs == {} and tree["latents/latents"].equals(TRACE.tree["latents/latents"])


class Tags(html.parser.HTMLParser):
    """Collects the tags and the text of a page, and fails on one that is left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></table></div><iframe>",
    "a & b &lt;b&gt;",
    "кот 🐈 'q' \"q\"",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_notebook_view_shows_text_as_text(text: str) -> None:
    tree = TRACE.tree.copy()
    node = tree["attention/8x8"].to_dataset()
    tree["attention/8x8"] = xr.DataTree(node.assign_coords(word=[text, *node["word"].values[1:].tolist()]))
    run = TRACE.run.model_copy(update={"prompts": (text,), "model": text})
    page = Tags(replace(TRACE, run=run, tree=tree)._repr_html_())
    assert page.open == [] and page.seen <= {
        "div",
        "b",
        "br",
        "img",
        "table",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "pre",
    }
    assert page.text.count(text) == 3


def test_the_notebook_view_is_compact() -> None:
    assert len(make_trace(images=4, size=512)._repr_html_()) < 20_000
    assert "<img" not in replace(TRACE, pictures=())._repr_html_()


def test_the_printed_view_names_every_array_and_its_axes() -> None:
    said = repr(TRACE)
    assert said.startswith("Trace of 'a cat and a balloon', 6 steps, 4 sites")
    assert "/attention/8x8/attention (site 2, step 6, branch 2, image 3, word 5, y 8, x 8) float32" in said
