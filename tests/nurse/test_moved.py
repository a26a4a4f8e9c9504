"""How far a picture was moved: hand-computed."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from probe.errors import BadInput, NotRecorded
from probe.nurse import how_far, moved, with_moved
from probe.trace import Trace
from tests.factories import make_small_trace


def shifted(trace: Trace, factor: float) -> Trace:
    """The same with scaled latents and a picture one level lighter."""
    node = trace.tree["/latents"].to_dataset()
    tree = xr.DataTree.from_dict({"/latents": node * factor})
    pictures = tuple(Image.fromarray(np.asarray(p).clip(0, 254) + np.uint8(1)) for p in trace.pictures)
    return replace(trace, tree=tree, pictures=pictures)


def plain() -> Trace:
    trace = make_small_trace()
    return replace(trace, pictures=tuple(Image.new("RGB", p.size, (100, 50, 0)) for p in trace.pictures))


def test_latents_in_shares_of_their_norm_and_pixels_in_shares_of_white():
    trace = plain()
    found = moved(shifted(trace, 1.5), trace)
    assert found["latents"].dims == ("time", "image") and found["predicted"].dims == ("step", "image")
    np.testing.assert_allclose(found["latents"], 0.5, rtol=2e-3)  # latents are kept in half precision
    np.testing.assert_allclose(found["picture"], 1 / 255, rtol=1e-9)
    assert not moved(trace, trace)["latents"].any()


def test_runs_that_do_not_go_together():
    trace = plain()
    other = replace(trace, run=trace.run.model_copy(update={"seed": 99}))
    with pytest.raises(BadInput, match="these runs cannot be compared: seeds 99 and 0"):
        moved(other, trace)
    with pytest.raises(NotRecorded, match="holds no 'latents'"):
        moved(replace(trace, tree=xr.DataTree()), trace)


def test_a_trace_keeps_how_far_it_is_from_the_plain_one_and_says_it():
    trace = plain()
    kept = with_moved(shifted(trace, 1.5), trace)
    assert kept.extra["moved"]["latents"] == pytest.approx([0.5] * len(kept.extra["moved"]["latents"]), rel=2e-3)
    assert how_far(kept) == (
        "from the plain picture the nursed one is away by 50% of the latents' norm, its pixels by 0% of white "
        "(root mean square)"
    )
    with pytest.raises(NotRecorded, match=r"not compared with a plain run; use probe.nurse.with_moved"):
        how_far(trace)
