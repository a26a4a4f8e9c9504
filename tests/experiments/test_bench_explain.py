"""The benchmark of explaining: it measures what it says, at a toy's size."""

import pytest

import probe
from experiments.bench_explain import AIM, ATTRIBUTIONS, INQUIRIES, measured, ran, stored


@pytest.fixture(scope="module")
def pipe():
    pipe = probe.load()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_an_inquiry_is_timed_beside_the_pass_that_it_explains(pipe):
    assert set(AIM) <= set(INQUIRIES)
    plain, asked = measured(pipe, INQUIRIES["the same, on text states"], 1)
    assert plain > 0 and plain / 2 < asked  # a row's own pass, and its way back


def test_explainers_of_a_stored_trace_are_listed_with_their_time(pipe):
    table = stored(pipe, 2, 1)
    names, times = (list(table.columns[i].cells) for i in range(2))
    assert {"attention", "relevancy", "leave_one_out", "guidance"} <= set(names)
    assert all(float(str(time)) > 0 for time in times)


def test_an_attribution_is_run_with_what_the_process_held(pipe):
    seconds, peak = ran(pipe, ATTRIBUTIONS["input x gradient of the latents"])
    assert float(seconds) >= 0 and 0.1 < peak < 100
