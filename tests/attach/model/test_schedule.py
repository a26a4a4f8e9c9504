"""What is read from a device: once a run and never once a step, so that a GPU is not made to wait."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import probe
from probe.attach.model.schedule import number, numbers
from tests import pipelines


class Readings(TorchDispatchMode):
    """Counts how often a number of a tensor is asked for on the host, which on a GPU is a wait."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "local_scalar" in str(function)
        return function(*args, **(kwargs or {}))


def readings(family: str, steps: int, *, recorded: bool) -> int:
    pipe = pipelines.pipeline(family)
    with Readings() as counted:
        if recorded:
            with probe.record(pipe, words=["cat"]):
                pipelines.run(pipe, family, num_inference_steps=steps, output_type="latent")
        else:
            pipelines.run(pipe, family, num_inference_steps=steps, output_type="latent")
    return counted.count


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux1"])
def test_no_step_reads_numbers_that_the_pipeline_does_not(family: str):
    added = [readings(family, n, recorded=True) - readings(family, n, recorded=False) for n in (2, 5)]
    assert added[0] == added[1]


def test_a_timestep_of_the_schedule_is_known_and_another_is_read():
    times = torch.tensor([981.0, 500.0, 1.0])
    numbers(times)
    with Readings() as counted:
        assert [number(t, times) for t in times] == [981.0, 500.0, 1.0]
        assert number(times[1:][0].expand(4), times) == 500.0
        assert counted.count == 0
        assert number(torch.tensor([7.0, 7.0]), times) == 7.0 and counted.count == 1
    assert number(3, times) == 3.0
    assert number(torch.tensor(981), times) == 981.0
