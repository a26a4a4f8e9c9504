"""Which method brings neglected subjects back, and at what price? The 276 prompts of Attend-and-Excite, on Menagerie.

Every method that a prompt alone can set up, with its defaults, from the same noises as the plain run; methods that need
boxes are told where things go, which no prompt says, and are left out. It is a study in --out, so it goes on where it
was interrupted, and `probe study` can look at it. It goes cell by cell: one prompt with one seed by every method, the
prompts in turn from the three subsets, so that whatever ends it leaves a balanced part; `--minutes` ends it in time.
Scored by Menagerie's judge and its CLIP. Intervals are paired bootstraps over prompts: a method minus plain, prompt by
prompt, over whole cells only. `--write` puts table and figure into docs and the rows into experiments/results, so that
later runs add to them (`--minutes 0 --write`: the page of the rows that there are). Rows are of weights and settings:
if a formula itself changes, remove that file and --out. Two processes share the prompts with `--part 1/2` and
`--part 2/2`, each with an --out of its own; the page is of all of them. Run it from the root of the repository; to try
it out: `--prompts 2 --seeds 0 --steps 4 --methods AttendAndExcite`.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import probe
from experiments import kept
from experiments.menagerie_pictures import GUIDANCE
from experiments.neglect_rows import CELL, Timed, features, spread, whole_cells
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.card import insert
from probe.study import Method, Study
from probe.study.drive import Progress
from probe.study.nursing import fields, prompt_methods
from probe.study.plan import plan
from probe.study.question import PLAIN
from probe.study.resolve import resolve

RESAMPLES = 2000
TOGETHER = pd.Timedelta(minutes=15)  # within which times are compared
CUT, TIMES = 0.6, 2.0  # the aim: neglect cut by so much at no more than so many times the time
PAGE, FIGURE = Path("docs/nursing.md"), Path("docs/images/nursing.png")
MEASURES: Mapping[str, str] = {
    "judge_all_present": "all subjects present",
    "judge_all_right": "all attributes right",
    "judge_fused": "fused",
    "clip_full": "CLIP, full prompt",
    "clip_least": "CLIP, least subject",
}
SUBSETS = ("animal-animal", "animal-object", "object-object")
HEAD = f"| method | {' | '.join(MEASURES.values())} | neglect against plain | time against plain | KID x 1000 |"
# Text-text similarity by BLIP on Stable Diffusion 1.4, 64 seeds a prompt: Chefer et al. 2023, Agarwal et al. 2023.
PUBLISHED = """**Published, and not comparable: another model, another scorer.** Stable Diffusion 1.4, similarity of the
prompt with BLIP's caption of the picture (Chefer et al. 2023; A-STAR's row: Agarwal et al. 2023).

| method | animal-animal | animal-object | object-object |
| --- | --- | --- | --- |
| Stable Diffusion | 0.76 | 0.78 | 0.77 |
| Composable Diffusion | 0.69 | 0.77 | 0.76 |
| Structured Diffusion | 0.76 | 0.78 | 0.76 |
| Attend-and-Excite | 0.806 | 0.830 | 0.811 |
| A-STAR | 0.82 | 0.84 | 0.82 |"""


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts, and its difference to plain with a paired interval."""

    value: float
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __str__(self) -> str:
        known = f" ({self.difference:+.3f}: {self.low:+.3f} to {self.high:+.3f})" if self.low or self.high else ""
        return "" if np.isnan(self.value) else f"{self.value:.3f}{known}"


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


def estimate(table: pd.DataFrame, method: str, measure: str) -> Estimate:
    """The mean over prompts of the mean over seeds; NaN where nothing was judged."""
    values = table.assign(value=table[measure].astype(float))
    means = values.pivot_table("value", "prompt", "method", aggfunc="mean", dropna=False)
    if not {method, PLAIN} <= set(means):  # none of its jobs came to an end here
        return Estimate(float("nan"))
    value = float(means[method].mean())
    if method == PLAIN:
        return Estimate(value)
    gap = means[method].to_numpy(float) - means[PLAIN].to_numpy(float)
    gap = gap[np.isfinite(gap)]
    return Estimate(value, float(gap.mean()), *paired(gap)) if len(gap) else Estimate(value)


def paired(gap: np.ndarray) -> tuple[float, float]:
    """Where the mean of the gaps may lie, 95 % sure: prompts drawn anew."""
    rng = np.random.default_rng(0)
    drawn = gap[rng.integers(0, len(gap), (RESAMPLES, len(gap)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def kid(X: np.ndarray, Y: np.ndarray) -> float:
    """Kernel distance of two sets of features [n, d]: unbiased squared MMD with k(x, y) = (x y / d + 1)^3.

    Binkowski et al. 2018; the features are Menagerie's own CLIP here, times sqrt(d), not Inception's. Rows of one
    number are of one prompt and seed, so they are not compared: they are alike, and would make sets seem closer than
    they are (Gretton et al. 2012, U-statistic of pairs).
    """
    n = len(X)
    if n < 2:
        return float("nan")
    xx, yy, xy = ((a @ b.T + 1) ** 3 for a, b in ((X, X), (Y, Y), (X, Y)))
    h = xx + yy - 2 * xy
    return float((h.sum() - np.trace(h)) / (n * (n - 1)))


def price(table: pd.DataFrame, method: str) -> float:
    """The median over pictures of a method's time, as a multiple of the plain picture's that was made shortly before.

    A machine is not the same at another time, so pictures that were made long after the plain ones do not count here.
    """
    own, plain = (table.loc[table["method"] == name].set_index(CELL).sort_index() for name in (method, PLAIN))
    made = [pd.to_datetime(rows["created"]) for rows in (own, plain)]
    near = (made[0] - made[1]).abs() < TOGETHER
    return float((own["time_picture"] / plain["time_picture"])[near].median())


def conclusion(table: pd.DataFrame) -> str:
    """Whether the aim was reached, and which methods cut neglect more than Adaptive, which chooses whom to nurse."""
    cuts = {name: neglect_cut(table, name) for name in dict.fromkeys(table["method"]) if name != PLAIN}
    cheap = {name: cut for name, cut in cuts.items() if price(table, name) <= TIMES}
    told = f"The aim is to cut neglect by {CUT:.0%} at no more than {TIMES:g} times the time. "
    if not cheap or all(np.isnan(cut) for cut in cheap.values()):
        return told + "Nothing here tells whether it is reached."
    best = max(cheap, key=lambda name: (round(cheap[name], 3), -price(table, name)))
    reached = "reached" if cheap[best] >= CUT else "not reached"
    told += f"It is {reached}: {best} cuts {cheap[best]:.0%} at {price(table, best):.2f} times."
    own = cuts.get("Adaptive")
    ahead = [name for name, cut in cuts.items() if own is not None and cut > own]
    return told + (f" Adaptive, which nurses on demand, is behind {', '.join(ahead)}." if ahead else "")


def row(table: pd.DataFrame, method: str) -> str:
    """One line of the table."""
    cells = [str(estimate(table, method, measure)) for measure in MEASURES]
    if method == PLAIN:
        return f"| {method} | {' | '.join(cells)} | | 1 | |"
    pair = [table.loc[table["method"] == name].sort_values(CELL) for name in (method, PLAIN)]
    cut, times = neglect_cut(table, method), price(table, method)
    cells += [
        "" if np.isnan(cut) else f"{0.0 - cut:+.0%}",
        "" if np.isnan(times) else f"{times:.2f}",
        f"{1000 * kid(*map(features, pair)):.1f}",
    ]
    return f"| {method} | {' | '.join(cells)} |"


def neglect_cut(table: pd.DataFrame, method: str) -> float:
    """The share of plain's neglect that a method takes away; NaN where plain neglects nothing."""
    missing = [1 - estimate(table, name, "judge_all_present").value for name in (PLAIN, method)]
    return 1 - missing[1] / missing[0] if missing[0] > 0 else float("nan")


@dataclass(frozen=True)
class Asked:
    """What a run was to do, beside what is there: how many prompts and seeds, and how many jobs failed."""

    prompts: int
    seeds: int
    failed: int = 0

    def told(self, table: pd.DataFrame) -> str:
        """What a table of whole cells rests on, and what it lacks."""
        cells = table.drop_duplicates(CELL)
        seeds = cells["prompt"].value_counts().tolist()
        each = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else f"{max(seeds)}"
        parts = cells.drop_duplicates("prompt")["subset"].value_counts()
        kinds = ", ".join(f"{parts[subset]} {subset}" for subset in SUBSETS if subset in parts)
        noun = "seed" if each == "1" else "seeds"
        told = f"{len(seeds)} prompts ({kinds}) x {each} {noun}, {len(cells)} pictures a method"
        if len(cells) < self.prompts * self.seeds:
            told += (
                f": **a part of the {self.prompts} x {self.seeds} that were asked for**, namely what every method was "
                "done with"
            )
        return told


def page(table: pd.DataFrame, asked: Asked) -> str:
    """The tables, each with what it rests on."""
    names = list(dict.fromkeys(table["method"]))
    rule = "|" + " --- |" * (len(MEASURES) + 4)
    told = (
        f"{asked.told(table)}; {int(table['steps'].iloc[0])} steps, "
        f"guidance {table['guidance'].iloc[0]:g}, weights {weights.revision()[:12]}; {asked.failed} jobs failed. In "
        "brackets: the difference to plain, and its 95 % interval by a paired bootstrap over prompts."
    )
    lines = [told, "", HEAD, rule, *(row(table, name) for name in names), ""]
    lines += [conclusion(table), "", "All subjects present, by subset:", "", *by_subset(table, names), ""]
    return "\n".join([*lines, PUBLISHED])


def by_subset(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Whether every subject is present, for each kind of prompt."""
    there = [subset for subset in SUBSETS if subset in set(table["subset"])]
    parts = {subset: table.loc[table["subset"] == subset] for subset in there}
    cells = {n: [str(estimate(part, n, "judge_all_present")) for part in parts.values()] for n in names}
    head = [f"| method | {' | '.join(there)} |", "| --- |" + " --- |" * len(there)]
    return head + [f"| {name} | {' | '.join(found)} |" for name, found in cells.items()]


def panels(table: pd.DataFrame) -> list[tuple[str, list[probe.show.Interval]]]:
    """Each measure's differences to plain, as the figure shows them."""
    names = [name for name in dict.fromkeys(table["method"]) if name != PLAIN]
    found = {measure: [(name, estimate(table, name, measure)) for name in names] for measure in list(MEASURES)[:3]}
    return [
        (f"{MEASURES[m]}, minus plain", [probe.show.Interval(n, e.difference, e.low, e.high) for n, e in rows])
        for m, rows in found.items()
    ]


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
    content = page(done, asked)
    print(content)
    if given.write:
        PAGE.write_text(insert(PAGE.read_text(), content))
        probe.show.interval_panels(panels(done)).savefig(FIGURE)
        fresh = mine.loc[mine["status"] == "done"]
        print(f"rows are kept in {kept.write(path, kept.merged(kept.read(path, ['key']), fresh, ['key']))}")


if __name__ == "__main__":
    main()
