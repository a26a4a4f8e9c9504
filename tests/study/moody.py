"""Scorers that misbehave, as a user's own might; this file is all that a driver's process needs of the tests."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from probe import Study
from probe.study import Scorer, Shot
from probe.study.scorers import Values


def drive(said: dict[str, Any]) -> None:
    """What the process of a study's driver does."""
    Study(**said).run()


class Brightness(Scorer):
    """The mean of the picture, 0..1."""

    def score(self, shot: Shot) -> Values:
        return {"mean": np.asarray(shot.picture).mean() / 255}


class Moody(Scorer):
    """Raises for one seed, sends a signal to its own process for another, takes its time, and notes what it did."""

    diary: str = ""
    seconds: float = 0.0
    error: int | None = None
    signal: int | None = None
    interrupt: int | None = None

    def score(self, shot: Shot) -> Values:
        time.sleep(self.seconds)
        if self.diary:
            with Path(self.diary).open("a") as file:
                file.write(f"{shot.job.key}\n")
        if shot.job.seed == self.error:
            raise ZeroDivisionError("a scorer that divides by zero")
        if shot.job.seed == self.signal:
            os.kill(os.getpid(), signal.SIGKILL)
        if shot.job.seed == self.interrupt:
            raise KeyboardInterrupt
        return {"seed": shot.job.seed}


class Target(Scorer):
    """What the prompt's row says it should be, and what it is given of that row."""

    reads = ("target",)

    def score(self, shot: Shot) -> Values:
        return {"asked": str(shot.job.row.columns["target"]), "given": sorted(shot.job.row.columns)}


class Odd(Scorer):
    """Gives what no table can hold."""

    def score(self, shot: Shot) -> Values:
        return {"self": {"not": "plain"}}
