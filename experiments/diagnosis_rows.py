"""The rows of the diagnosis's calibration: pictures of two subjects, what attention said of them, and what came out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import track

import probe
from experiments.menagerie_pictures import GUIDANCE
from experiments.menagerie_prompts import pair_prompts, seen_pairs
from probe.generator import weights
from probe.nurse.diagnose import find_cast
from probe.nurse.diagnosis_ahead import preview
from probe.nurse.diagnosis_signals import EXPLAINED, PREVIEW, read_signals, summary
from probe.study.results import replace_file
from probe.study.rows import encode_rows

FIRST_SEED = 100_000  # apart from the seeds of the benchmark
LEAST = 500  # pictures that a calibration has to rest on before it is shipped
Measure = Callable[[Any, int], Iterator[dict[str, Any]]]  # of a pipeline and a picture's number


def collect(folder: Path, pictures: int, measure: Measure, *, device: str | None = None) -> pd.DataFrame:
    """One row a subject. What is there already is read, what is missing is drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(pictures) if not _place(folder, i).is_file()]
    if missing:
        pipe = probe.load(device=device)
        for number in track(missing, "drawing", console=Console(stderr=True), transient=True):
            replace_file(_place(folder, number), encode_rows(measure(pipe, number)))
    return pd.concat([pd.read_parquet(_place(folder, i)) for i in range(pictures)], ignore_index=True)


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.parquet"


def asked(number: int) -> tuple[tuple[str, str], str, int]:
    """The subjects, the prompt and the seed of a picture."""
    pairs = seen_pairs(LEAST)
    place = number % len(pairs)
    return pairs[place], pair_prompts(pairs)[place], FIRST_SEED + number


def measure(pipe: Any, number: int, *, steps: int, until: int) -> Iterator[dict[str, Any]]:
    """The signals of both subjects of one picture, and whether the judge misses them."""
    pair, prompt, seed = asked(number)
    judge = weights.judge()
    with probe.record(pipe, words=["*"], steps=slice(0, until)) as recording:
        rng = torch.Generator().manual_seed(seed)
        picture = pipe(prompt, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=rng).images[0]
    verdict = judge.read(picture)
    trace = probe.decode_thumbnails(recording.trace, pipe, steps=[until - 1], cells=None)
    cast = find_cast(trace, pair)
    signals = read_signals(trace, cast, until=until)
    odds = preview(judge, trace, cast, 0, until - 1)
    for kind in pair:
        base = {"picture": number, "prompt": prompt, "seed": seed, "subject": kind, PREVIEW: odds[kind]}
        yield base | {"neglected": not verdict.has(kind)} | summary(signals, kind)


def explain(pipe: Any, number: int, *, steps: int, until: int) -> Iterator[dict[str, Any]]:
    """What relevancy and leaving a word out say of both subjects at the last step that is looked at."""
    pair, prompt, seed = asked(number)
    last = (until - 1,)
    inquiries = [probe.Relevancy(steps=last), probe.LeaveOneOut(steps=last, words=pair)]

    def stop(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step + 1 >= until  # how diffusers' loops are ended early
        return given

    with probe.record(pipe, words=["*"], steps=slice(0, until), explain=inquiries) as recording:
        rng = torch.Generator().manual_seed(seed)
        call = {"num_inference_steps": steps, "guidance_scale": GUIDANCE, "generator": rng, "output_type": "latent"}
        pipe(prompt, **call, callback_on_step_end=stop)
    signals = read_signals(recording.trace, find_cast(recording.trace, pair), until=until)
    for kind in pair:
        found = summary(signals, kind)
        yield {"picture": number, "subject": kind} | {name: found[name] for name in EXPLAINED}


def with_explained(rows: pd.DataFrame, explained: pd.DataFrame) -> pd.DataFrame:
    """The rows, with what was explained of some of them."""
    plain = rows.drop(columns=[name for name in EXPLAINED if name in rows])
    return plain.merge(explained[["picture", "subject", *EXPLAINED]], on=["picture", "subject"], how="left")
