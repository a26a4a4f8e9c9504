"""The takes of one recording, one after another: when a generation begins, when it is over, what trace it becomes."""

import time
import warnings
from collections.abc import Collection, Sequence
from typing import Any

from probe.attach.aside import Asides
from probe.attach.assemble import assemble
from probe.attach.kept.budget import Budget
from probe.attach.kept.outputs import Chosen
from probe.attach.kept.remedy import DRY, NOTHING, UNENDED, UNSTEPPED
from probe.attach.model.families import Family
from probe.attach.request import Request
from probe.attach.take import Spoken, Take
from probe.errors import Diverged, NotRecorded, ProbeWarning
from probe.trace import Trace


class Takes:
    """`now` is the take of the generation that is being prepared or runs; `over`: the pipeline's call has ended, so
    that a pass which comes now is of another pipeline with the same denoiser.
    """

    def __init__(self, pipe: Any, request: Request):
        self._pipe: Any = pipe
        self._request, self._began = request, time.monotonic()
        self.now: Take | None = None
        self.over = False
        self.budget = Budget(pipe, request.budget)
        self.traces: list[Trace] = []
        self._spoken: Spoken | None = None  # what was encoded for the generation before
        self._unstepped = False  # whether a generation ran without a step of the pipeline's scheduler

    @property
    def last(self) -> Trace:
        """The trace of the last generation. Raises NotRecorded."""
        if not self.traces:
            raise NotRecorded(DRY if self._request.dry_run else UNSTEPPED if self._unstepped else NOTHING)
        return self.traces[-1]

    def begin(self, layout: Family, wanted: Collection[str], chosen: Sequence[Chosen], asides: Asides) -> Take:
        """The take of the generation that is being prepared; one that has made steps is finished first."""
        if self.now is not None and self.now.step:
            self.finish(asides)
        self.over = False
        if self.now is None:
            self._began = time.monotonic()
            self.budget = Budget(self._pipe, self._request.budget, tuple(wanted), self._request.dry_run)
            self.now = self._request.take(layout, self._pipe.scheduler, chosen)
        return self.now

    def encoded_before(self, embeds: Any) -> Spoken | None:
        """What the generation before encoded, where these embeddings are of it."""
        return self._spoken if self._spoken is not None and self._spoken.gave(embeds) else None

    def end(self) -> None:
        """The pipeline's call has ended."""
        self.over = self.now is not None and self.now.step > 0

    def finish(self, asides: Asides, stopped: Diverged | None = None) -> None:
        """What was recorded becomes a trace, if there was a step. `stopped`: the error that ended it too early."""
        take, self.now = self.now, None
        if take is None:
            return
        self._unstepped, self._spoken = not take.step and bool(take.attention.ran), take.spoken
        asides.give_back()
        if take.step:
            self.traces.append(assemble(take, asides, self._pipe, time.monotonic() - self._began))
            self._request.check_branches({branch for _, _, branch in take.attention.ran})
            if stopped is not None:
                stopped.trace = self.traces[-1]
            elif any(step >= take.step for step, _, _ in take.attention.ran):
                warnings.warn(UNENDED, ProbeWarning, stacklevel=2)

    def close(self) -> None:
        """Hold no model, and nothing that was not finished."""
        self._pipe = self.budget.pipe = self.now = self._spoken = None
