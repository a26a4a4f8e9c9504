"""Rows of the neglect benchmark: in which order they come to be, when that ends, and which of them are compared.

A cell is one prompt with one seed, by every method; only whole cells are compared. A row is known by its job's key,
which names the weights and all settings of its method, so rows of other weights or settings are never mixed in.
"""

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import closing

import numpy as np
import pandas as pd

from probe.study import Executor, Job, Local, Scorer, Shot, Work
from probe.study.plan import plan
from probe.study.prompts import PromptRow
from probe.study.results import Result
from probe.study.scorers import picture_embedding

FINENESS = 1000  # parts of 1 in which features are kept
CELL = ["prompt", "seed"]


class Features(Scorer):
    """The picture's embedding by Menagerie's CLIP, [128] of length 1, in thousandths: what KID needs of a picture."""

    def score(self, shot: Shot) -> Mapping[str, list[int]]:
        return {"parts": (picture_embedding(shot.picture) * FINENESS).round().astype(int).tolist()}


class Timed(Executor):
    """Begins no cell after `minutes`, and does no job that is `known`.

    Of a study in the order of its seeds it goes in turns; whatever ends it, every method has been asked for the same
    cells but the last.
    """

    def __init__(self, minutes: float | None = None, known: Sequence[str] = ()):
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.known = frozenset(known)  # keys of rows that are kept already

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return self.end is not None and time.monotonic() >= self.end

    def run(self, jobs: Sequence[Job], work: Work) -> Generator[Result]:
        every = plan(work.study)
        done = self.known | {job.key for job in every} - {job.key for job in jobs}
        left = [job for job in in_turns(every, done) if job.key not in done]
        last = {(job.row.prompt, job.seed): job.key for job in left}
        if not left or self.over:
            return
        with closing(Local().run(left, work)) as running:
            for result in running:
                yield result
                if self.over and result.key == last[result.row["prompt"], result.row["seed"]]:
                    return


def in_turns(jobs: Sequence[Job], known: Collection[str] = ()) -> list[Job]:
    """Each prompt once, at a seed that goes on from prompt to prompt, before any prompt's second.

    Cells of which all jobs are `known` are a prompt's first ones, whatever their seed.

    What a picture lacks depends on its noise, and all prompts share that of a seed: a part of the whole should have met
    all of them.
    """
    prompts, seeds = (list(dict.fromkeys(some)) for some in zip(*map(_cell, jobs), strict=True))
    undone = {_cell(job) for job in jobs if job.key not in known}
    ranks: dict[tuple[str, int], tuple[int, int]] = {}
    for i, prompt in enumerate(prompts):
        cells = [(prompt, seeds[(turn + i) % len(seeds)]) for turn in range(len(seeds))]
        cells.sort(key=undone.__contains__)  # those that are done first
        ranks |= {cell: (turn, i) for turn, cell in enumerate(cells)}
    return sorted(jobs, key=lambda job: ranks[_cell(job)])


def _cell(job: Job) -> tuple[str, int]:
    return job.row.prompt, job.seed


def spread(rows: Sequence[PromptRow], count: int | None = None) -> list[PromptRow]:
    """The first `count` of the rows in an order of which every beginning is balanced: the subsets in turn, as far as
    each goes, and within a subset by van der Corput's sequence, so that neighbours in the list come far apart.
    """
    subsets: dict[str, list[PromptRow]] = {}
    for row in rows:
        subsets.setdefault(str(row.columns["subset"]), []).append(row)
    turns = [(turn, n, some[i]) for n, some in enumerate(subsets.values()) for turn, i in enumerate(corput(len(some)))]
    return [row for _, _, row in sorted(turns, key=lambda each: each[:2])][:count]


def corput(count: int) -> list[int]:
    """0 to count - 1 in the order in which van der Corput's sequence in base 2 comes upon them."""
    bits = max(count - 1, 1).bit_length()
    flipped = (int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits))
    return list(dict.fromkeys(k * count >> bits for k in flipped))


def whole_cells(table: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """The rows of cells of which every method made a picture."""
    done = table.loc[(table["status"] == "done") & table["method"].isin(list(methods))]
    return done.loc[done.groupby(CELL)["method"].transform("nunique") == len(methods)]


def features(table: pd.DataFrame) -> np.ndarray:
    """[picture, 128] of length 1."""
    X = np.stack([np.asarray(parts, dtype=float) for parts in table["features_parts"]])
    return X / np.linalg.norm(X, axis=1, keepdims=True)
