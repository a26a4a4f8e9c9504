"""What each method does wrong: of every method the pictures that it spoiled most, beside the plain ones.

They are taken from the kept rows of `experiments/neglect_benchmark.py`: first those in which every subject was there
without the method and not with it, then those where one was missed by both; of several, those that lost most of their
likeness to the prompt. Both are drawn anew from the same noise. `--write` puts the sheet into docs. Run it from the
root of the repository.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse.typing import PositiveInt
from PIL import Image
from rich.console import Console
from rich.progress import track

import probe
from experiments import kept
from experiments.menagerie_pictures import GUIDANCE
from experiments.neglect_rows import CELL
from probe.errors import BadInput
from probe.study.nursing import nurse_for
from probe.study.question import PLAIN

COLUMNS = 4  # two pairs a row
SHEET = Path("docs/images/nursing-failures.png")


@dataclass(frozen=True)
class Failure:
    """One picture that a method spoiled, and what the judge misses in it."""

    method: str
    prompt: str
    seed: int
    steps: int
    missed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method}: no {', no '.join(self.missed)}"


def failures(rows: pd.DataFrame, each: int) -> list[Failure]:
    """The worst pictures of every method. Raises BadInput where there are no rows to choose from."""
    if not len(rows):
        raise BadInput("no rows of these weights are kept; run experiments/neglect_benchmark.py --write first")
    latest = rows.sort_values("created").drop_duplicates(["method", *CELL], keep="last")  # older ones: other settings
    table = latest.sort_values(CELL).set_index(CELL)
    plain, chosen = table.loc[table["method"] == PLAIN], list[Failure]()
    for method in sorted(set(table["method"]) - {PLAIN}):
        bad = table.loc[(table["method"] == method) & ~table["judge_all_present"].astype(bool)]
        beside = plain.loc[bad.index]
        lost = beside["clip_full"] - bad["clip_full"]
        ranked = bad.assign(harm=beside["judge_all_present"].astype(bool), lost=lost)
        for place, row in ranked.sort_values(["harm", "lost"], ascending=False).head(each).iterrows():
            chosen.append(failure(place, row))
    return chosen


def failure(place: Any, row: pd.Series) -> Failure:
    """One row of the table."""
    missed = [s for s, there in zip(row["subjects"], row["judge_present"], strict=True) if not there]
    return Failure(row["method"], place[0], int(place[1]), int(row["steps"]), tuple(map(str, missed)))


def drawn(pipe: Any, found: Failure, method: str) -> Image.Image:
    """The picture by a method, or plain."""
    nurse = [] if method == PLAIN else [nurse_for(method, found.prompt)]
    with probe.record(pipe, words=[], interventions=nurse):
        rng = torch.Generator().manual_seed(found.seed)
        call = {"num_inference_steps": found.steps, "guidance_scale": GUIDANCE, "generator": rng}
        return pipe(found.prompt, **call).images[0]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=PositiveInt, default=2, help="pictures of every method")
    parser.add_argument("--out", type=Path, default=Path("out/nursing-failures.png"), help="the sheet")
    parser.add_argument("--device", help="where it draws, e.g. cuda")
    parser.add_argument("--write", action="store_true", help=f"put it into {SHEET}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    found = failures(kept.read(kept.place("neglect", kept.PARQUET), ["key"]), given.each)
    pipe = probe.load(device=given.device)
    pictures, captions = list[Image.Image](), list[str]()
    for one in track(found, "drawing", console=Console(stderr=True), transient=True):
        pictures += [drawn(pipe, one, method) for method in (PLAIN, one.method)]
        captions += [one.prompt, str(one)]
        print(f"{one} in {one.prompt!r}, seed {one.seed}")
    target = SHEET if given.write else given.out
    target.parent.mkdir(parents=True, exist_ok=True)
    probe.show.contact_sheet(pictures, captions, columns=COLUMNS).save(target)


if __name__ == "__main__":
    main()
