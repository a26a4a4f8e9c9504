"""Which steps and heads are kept, and means over groups of steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probe.attach.kept.keeping import Kept, Reading, Wish, wish
from probe.errors import BadInput, NoMatch


def test_every_step_is_a_reading_until_there_are_too_many():
    assert Wish().slots(50).labels == list(range(50))
    assert Wish().slots(51).slots[:2] == ((0, 1), (2, 3))
    assert Wish(groups=2).slots(5).slots == ((0, 1, 2), (3, 4))
    assert Wish("maps").slots(1000).labels == list(range(1000))


@given(st.integers(1, 300), st.integers(1, 60))
def test_groups_hold_every_step_once(total: int, groups: int):
    slots = Wish(groups=groups).slots(total)
    assert [step for some in slots.slots for step in some] == list(range(total))
    assert len(slots.slots) <= groups
    assert len({len(some) for some in slots.slots[:-1]}) <= 1


def test_steps_count_as_in_a_list():
    assert Wish(steps=slice(None, None, 3)).slots(7).labels == [0, 3, 6]
    assert Wish(steps=(-1, 0)).slots(4).labels == [0, 3]
    with pytest.raises(NoMatch, match=r"selects \[9\]; this run has steps 0 to 3"):
        Wish(steps=(0, 9)).slots(4)
    with pytest.raises(NoMatch, match="slice"):
        Wish(steps=slice(9, 12)).slots(4)


def test_heads_that_a_site_lacks_are_left_out():
    assert wish("summary", None, [3, 0], 50).chosen_heads(2) == (0,)
    assert wish("full", None, None, 50).chosen_heads(3) == (0, 1, 2)
    assert wish("summary", None, None, 50).chosen_heads(3) == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("most", None, None, 50), "is not a level; there are: summary, maps, full"),
        (("summary", None, "some", 50), r"heads=\[0, 3\]"),
        (("summary", None, None, 0), "at least one group"),
    ],
)
def test_bad_wishes(given: tuple, said: str):
    with pytest.raises(BadInput, match=said):
        wish(*given)
    with pytest.raises(NoMatch, match="no heads"):
        wish("summary", None, [], 50)
    with pytest.raises(NoMatch, match="no steps"):
        wish("summary", [], None, 50)


def test_readings_of_a_group_are_summed():
    kept = Kept(Wish(groups=1))
    kept.plan(3)
    for step in range(3):
        plane = torch.full((1, 2), float(step))
        kept.add(step, ("site", 0), "cond", 0, Reading(0, plane, plane[None]))
    (reading,) = kept.pop(0, ("site", 0), "cond").values()
    assert reading.count == 3 and kept.readings == {}
    assert (reading.mean / reading.count).tolist() == [[1.0, 1.0]]
    assert reading.heads is not None and reading.heads.shape == (1, 1, 2)
