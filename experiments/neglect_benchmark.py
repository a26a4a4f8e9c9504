"""Which method brings neglected subjects back, and at what price? The 276 prompts of Attend-and-Excite, on Menagerie.

Every method that a prompt alone can set up, with its defaults, from the same noises as the plain run; methods that need
boxes are told where things go, which no prompt says, and are left out. It is a study in --out, so it goes on where it
was interrupted, and `probe study` can look at it. It goes cell by cell: one prompt with one seed by every method, the
prompts in turn from the three subsets, at seeds that go round, so that whatever ends it leaves a balanced part;
`--minutes` ends it in time.
Scored by Menagerie's judge and its CLIP. Intervals are paired bootstraps over prompts: a method minus plain, prompt by
prompt, over whole cells only. `--write` puts table and figure into docs and the rows into experiments/results, so that
later runs add to them (`--minutes 0 --write`: the page of the rows that there are). Rows are of weights and settings:
if a formula itself changes, remove that file and --out. Two processes share the prompts with `--part 1/2` and
`--part 2/2`, each with an --out of its own; the page is of all of them. With `--methods` single methods go further than
all do: what is known of more prompts is told apart (`--minutes 0 --write`, with all methods again). Run it from the
root of the repository; to try it out: `--prompts 2 --seeds 0 --steps 4 --methods AttendAndExcite`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import probe
from experiments import kept
from experiments.menagerie_pictures import GUIDANCE
from experiments.neglect_page import Asked, page, panels
from experiments.neglect_rows import Timed, spread, whole_cells
from probe.errors import BadInput
from probe.generator.card import insert
from probe.study import Method, Study
from probe.study.drive import Progress
from probe.study.nursing import fields, prompt_methods
from probe.study.plan import plan
from probe.study.question import PLAIN
from probe.study.resolve import resolve

PAGE, FIGURE = Path("docs/nursing.md"), Path("docs/images/nursing.png")


def study(names: Sequence[str], given: argparse.Namespace) -> Study:
    """The question as data."""
    part, parts = given.part
    rows = spread(Study(prompts="attend-and-excite").rows, given.prompts)[part - 1 :: parts]
    asked = [Method(method=name, **{field: f"${field}" for field in fields(name)}) for name in names]
    return Study(
        name="neglect",
        question="Which method brings neglected subjects back, and at what price?",
        prompts=rows,
        seeds=given.seeds,
        interventions=(Method(method=PLAIN), *asked),
        scorers=("judge", "clip", "time", Method(method="experiments.neglect_rows:Features", label="features")),
        steps=(given.steps,),
        guidance=(GUIDANCE,),
        order="seeds",
        folder=str(given.out),
    )


def share(text: str) -> tuple[int, int]:
    """Which part of how many, from "1/2"."""
    part, parts = map(int, text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError(text)
    return part, parts


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, help="the first so many, in turn from the three subsets")
    parser.add_argument("--part", type=share, default=(1, 1), help="1/2: every second of them, from the first")
    parser.add_argument("--seeds", default="0-7", help="0-63 is the published protocol")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--methods", nargs="+", choices=prompt_methods(), default=list(prompt_methods()))
    parser.add_argument("--minutes", type=float, help="begin no prompt and seed after so long")
    parser.add_argument("--out", type=Path, default=Path("out/neglect"), help="the folder of the study")
    parser.add_argument("--device", help="where it runs, e.g. cuda")
    parser.add_argument("--write", action="store_true", help=f"put table and figure into {PAGE} and {FIGURE}")
    return parser.parse_args(argv)


def said(progress: Progress) -> None:
    """One line a job."""
    one = progress.result.row
    print(
        f"{one['method']}, {one['prompt']!r}, seed {one['seed']}: {one['status']}, {one['seconds']:.1f} s", flush=True
    )


def planned(rows: pd.DataFrame, made: Study) -> pd.DataFrame:
    """The rows of this very study, in its order: the first method of its page is plain."""
    place = {job.key: i for i, job in enumerate(plan(made))}
    mine = rows.loc[rows["key"].isin(list(place))]
    return mine.sort_values("key", key=lambda keys: keys.map(place)).reset_index(drop=True)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    question, path = study(given.methods, given), kept.place("neglect", kept.PARQUET)
    known = kept.read(path, ["key"])
    status = question.run(device=given.device, executor=Timed(given.minutes, known["key"]), on_job=said)
    rows = kept.merged(kept.read(path, ["key"]), question.table(), ["key"])
    whole = resolve(study(given.methods, argparse.Namespace(**{**vars(given), "part": (1, 1)})))
    mine = planned(rows, whole)
    done = whole_cells(mine, [method.name for method in question.interventions]) if len(mine) else mine
    if not len(done):
        raise BadInput(f"no prompt and seed was done by every method, so there is nothing to compare: {status}")
    asked = Asked(len(whole.rows), len(whole.seeds), int((mine["status"] != "done").sum()))
    content = page(done, asked, mine)
    print(content)
    if given.write:
        PAGE.write_text(insert(PAGE.read_text(), content))
        probe.show.interval_panels(panels(done)).savefig(FIGURE)
        fresh = mine.loc[mine["status"] == "done"]
        print(f"rows are kept in {kept.write(path, kept.merged(kept.read(path, ['key']), fresh, ['key']))}")


if __name__ == "__main__":
    main()
