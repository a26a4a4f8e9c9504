"""A direction in what modules give: where their outputs lie for some runs, less where they lie for others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probe.axes import BRANCH, IMAGE, STEP
from probe.errors import BadInput, NotRecorded
from probe.trace import Trace

ROOT = "/modules/"


@dataclass(frozen=True, eq=False)
class Direction:
    """By module, the mean output of one set of runs minus that of another: [channel], float32.

    It says where the two sets differ, whatever the reason: the words, but also all that came along with them.
    """

    vectors: Mapping[str, np.ndarray]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def norms(self) -> dict[str, float]:
        """How far apart the two sets lie, by module."""
        return {name: float(np.linalg.norm(vector)) for name, vector in self.vectors.items()}

    def __repr__(self) -> str:
        told = ", ".join(f"{name} [{len(vector)}] {self.norms[name]:.3g}" for name, vector in self.vectors.items())
        return f"Direction({told})"


def direction(towards: Sequence[Trace], away: Sequence[Trace]) -> Direction:
    """The direction from the runs `away` to the runs `towards`, in every module whose outputs they all hold.

    Each run counts alike: the mean of the module's channels over cells, steps and pictures of the prompt's branch.
    The runs are recorded with `modules=`; with equal seeds on both sides, the noise's share cancels.
    Raises NotRecorded where a run holds no outputs, BadInput where there are no runs or none of the modules is in all.
    """
    if not towards or not away:
        raise BadInput(f"a direction goes from some runs to others; got {len(away)} and {len(towards)} traces")
    there, here = ([_means(trace) for trace in side] for side in (towards, away))
    shared = [name for name in there[0] if all(name in run for run in (*there, *here))]
    if not shared:
        raise BadInput(f"no module is in all of the traces; the first holds {', '.join(there[0])}")
    prompts = {side: [trace.prompt for trace in traces] for side, traces in (("towards", towards), ("away", away))}
    return Direction({name: _mean(there, name) - _mean(here, name) for name in shared}, prompts)


def _means(trace: Trace) -> dict[str, np.ndarray]:
    """[channel] by module: the mean over steps and pictures of the means that a run holds for its prompt."""
    held = {path.removeprefix(ROOT): trace.node(path) for path in trace.tree.groups if path.startswith(ROOT)}
    found = {
        name: node["mean"].sel({BRANCH: "cond"}).mean((STEP, IMAGE)).values
        for name, node in held.items()
        if "cond" in node[BRANCH]
    }
    if not found:
        raise NotRecorded(
            f"the trace of {trace.prompt!r} holds no outputs of modules for its prompt; record some: "
            'probe.record(pipe, modules="mid_block")'
        )
    return found


def _mean(runs: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    """Raises BadInput where a module has other channels in another run."""
    widths = sorted({len(run[name]) for run in runs})
    if len(widths) > 1:
        raise BadInput(f"{name} has {widths[0]} channels in one run and {widths[1]} in another; record one model")
    return np.mean([run[name] for run in runs], axis=0)
