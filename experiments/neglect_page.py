"""The page of the neglect benchmark: means over prompts, paired intervals, distances, and what they come to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

import probe
from experiments.neglect_rows import CELL, features, whole_cells
from probe.generator import weights
from probe.study.question import PLAIN

RESAMPLES = 2000
TOGETHER = pd.Timedelta(minutes=15)  # within which times are compared
CUT, TIMES = 0.6, 2.0  # the aim: neglect cut by so much at no more than so many times the time
MEASURES: Mapping[str, str] = {
    "judge_all_present": "all subjects present",
    "judge_all_right": "all attributes right",
    "judge_fused": "fused",
    "clip_full": "CLIP, full prompt",
    "clip_least": "CLIP, least subject",
}
SUBSETS = ("animal-animal", "animal-object", "object-object")
HEAD = f"| method | {' | '.join(MEASURES.values())} | neglect against plain | time against plain | KID x 1000 |"
RULE = "|" + " --- |" * (len(MEASURES) + 4)
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


def price(every: pd.DataFrame, method: str) -> float:
    """The median over pictures of a method's time, as a multiple of the plain picture's that was made shortly before.

    A machine is not the same at another time, so pictures that were made long after the plain ones do not count here.
    """
    both = whole_cells(every, [PLAIN, method])
    own, plain = (both.loc[both["method"] == name].set_index(CELL).sort_index() for name in (method, PLAIN))
    made = [pd.to_datetime(rows["created"]) for rows in (own, plain)]
    near = (made[0] - made[1]).abs() < TOGETHER
    return float((own["time_picture"] / plain["time_picture"])[near].median())


def conclusion(table: pd.DataFrame, wide: pd.DataFrame, every: pd.DataFrame) -> str:
    """Whether the aim was reached, by the methods that were tried on most pictures; and which methods cut neglect more
    than Adaptive, which chooses whom to nurse.
    """
    cuts = cuts_of(wide)
    prices = {name: price(every, name) for name in cuts}
    cheap = {name: cut for name, cut in cuts.items() if prices[name] <= TIMES}
    told = f"The aim is to cut neglect by {CUT:.0%} at no more than {TIMES:g} times the time. "
    if not cheap or all(np.isnan(cut) for cut in cheap.values()):
        return told + "Nothing here tells whether it is reached."
    best = max(cheap, key=lambda name: (round(cheap[name], 3), -prices[name]))
    reached = "reached" if cheap[best] >= CUT else "not reached"
    pictures = len(wide.drop_duplicates(CELL))
    told += f"It is {reached}: on {pictures} pictures {best} cuts {cheap[best]:.0%} at {prices[best]:.2f} times."
    each = cuts_of(table)
    ahead = [name for name, cut in each.items() if "Adaptive" in each and cut > each["Adaptive"]]
    return told + (f" Adaptive, which nurses on demand, is behind {', '.join(ahead)}." if ahead else "")


def row(table: pd.DataFrame, method: str, every: pd.DataFrame) -> str:
    """One line of the table; its time by all pictures there are of a method."""
    cells = [str(estimate(table, method, measure)) for measure in MEASURES]
    if method == PLAIN:
        return f"| {method} | {' | '.join(cells)} | | 1 | |"
    pair = [table.loc[table["method"] == name].sort_values(CELL) for name in (method, PLAIN)]
    cut, times = neglect_cut(table, method), price(every, method)
    cells += [
        "" if np.isnan(cut) else f"{0.0 - cut:+.0%}",
        "" if np.isnan(times) else f"{times:.2f}",
        f"{1000 * kid(*map(features, pair)):.1f}",
    ]
    return f"| {method} | {' | '.join(cells)} |"


def nursed(table: pd.DataFrame) -> list[str]:
    """The methods of a table in its order, without plain."""
    return [name for name in dict.fromkeys(table["method"]) if name != PLAIN]


def cuts_of(table: pd.DataFrame) -> dict[str, float]:
    """`neglect_cut` of every method."""
    return {name: neglect_cut(table, name) for name in nursed(table)}


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
        if len(table.drop_duplicates(CELL)) >= self.prompts * self.seeds:
            return rests(table)
        part = f"**a part of the {self.prompts} x {self.seeds} that were asked for**"
        return f"{rests(table)}: {part}, namely what every method was done with"


def rests(table: pd.DataFrame) -> str:
    """What a table of whole cells rests on."""
    cells = table.drop_duplicates(CELL)
    seeds = cells["prompt"].value_counts().tolist()
    each = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else f"{max(seeds)}"
    parts = cells.drop_duplicates("prompt")["subset"].value_counts()
    kinds = ", ".join(f"{parts[subset]} {subset}" for subset in SUBSETS if subset in parts)
    noun = "seed" if each == "1" else "seeds"
    return f"{len(seeds)} prompts ({kinds}) x {each} {noun}, {len(cells)} pictures a method"


def page(table: pd.DataFrame, asked: Asked, every: pd.DataFrame) -> str:
    """The tables, each with what it rests on. `every` are all rows, those of cells that are not whole too."""
    names = list(dict.fromkeys(table["method"]))
    cost = float(table.pivot_table("seconds", CELL, aggfunc="sum")["seconds"].median())
    told = (
        f"{asked.told(table)}; {int(table['steps'].iloc[0])} steps, "
        f"guidance {table['guidance'].iloc[0]:g}, weights {weights.revision()[:12]}; {asked.failed} jobs failed. In "
        "brackets: the difference to plain, and its 95 % interval by a paired bootstrap over prompts. One "
        f"prompt and seed by every method took {cost:.0f} s in the median."
    )
    wide = widest(table, every, names)
    lines = [told, "", HEAD, RULE, *(row(table, name, every) for name in names), ""]
    lines += [conclusion(table, wide, every), "", "All subjects present, by subset:", "", *by_subset(table, names), ""]
    return "\n".join([*lines, *([] if wide is table else further(wide, every)), PUBLISHED])


def widest(table: pd.DataFrame, every: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The cells of plain and of the methods that went furthest; the table if none was tried on more than all were."""
    cells = {name: len(whole_cells(every, [PLAIN, name])) // 2 for name in names if name != PLAIN}
    most = max(cells.values(), default=0)
    if most <= len(table.drop_duplicates(CELL)):
        return table
    return whole_cells(every, [PLAIN, *(name for name, count in cells.items() if count == most)])


def further(wide: pd.DataFrame, every: pd.DataFrame) -> list[str]:
    """The table of the methods that were tried on more."""
    methods = nursed(wide)
    names, moved = [PLAIN, *methods], " ".join(changed(wide, name) for name in methods)
    told = f"Tried on more: {rests(wide)}. {moved}"
    lines = [told, "", HEAD, RULE, *(row(wide, name, every) for name in names), "", *by_subset(wide, names), ""]
    return [*lines, *by_seed(wide, names)]


def changed(table: pd.DataFrame, method: str) -> str:
    """How many pictures without a subject a method repaired, and how many with all of them it spoiled."""
    before, after = both(table, method)
    repaired, spoiled = (~before & after).sum(), (before & ~after).sum()
    return (
        f"{method} repaired {repaired} of the {(~before).sum()} pictures that lacked a subject, and spoiled {spoiled} "
        f"of the other {before.sum()}."
    )


def both(table: pd.DataFrame, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether all subjects are present in the plain picture and in the method's, by prompt and seed."""
    seen = table.pivot_table("judge_all_present", CELL, "method", aggfunc="last").astype(float)
    return seen[PLAIN].to_numpy() == 1, seen[method].to_numpy() == 1


def by_subset(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Whether every subject is present, for each kind of prompt."""
    there = [subset for subset in SUBSETS if subset in set(table["subset"])]
    parts = {subset: table.loc[table["subset"] == subset] for subset in there}
    cells = {n: [str(estimate(part, n, "judge_all_present")) for part in parts.values()] for n in names}
    head = [f"| method | {' | '.join(there)} |", "| --- |" + " --- |" * len(there)]
    return head + [f"| {name} | {' | '.join(found)} |" for name, found in cells.items()]


def by_seed(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Whether every subject is present, and what was spoiled, for each noise, which all prompts share; nothing of one
    seed alone. The first name is plain.
    """
    counts = table.drop_duplicates(CELL)["seed"].value_counts().sort_index()
    if len(counts) < 2:
        return []
    there = table.assign(value=table["judge_all_present"].astype(float))
    means = there.pivot_table("value", "method", "seed", aggfunc="mean").loc[list(names)]
    head = [f"| method | {' | '.join(f'seed {seed}' for seed in counts.index)} |", "| --- |" + " --- |" * len(counts)]
    lines = [f"| {name} | {' | '.join(f'{value:.3f}' for value in own)} |" for name, own in means.iterrows()]
    spoiled = [f"| {name}, spoiled | {' | '.join(spoilt(table, name, counts.index))} |" for name in names[1:]]
    return [*head, f"| pictures | {' | '.join(map(str, counts))} |", *lines, *spoiled, ""]


def spoilt(table: pd.DataFrame, method: str, seeds: Iterable[int]) -> list[str]:
    """How many of the pictures that lacked nothing a method spoiled, seed by seed."""
    parts = (both(table.loc[table["seed"] == seed], method) for seed in seeds)
    return [f"{(before & ~after).sum()} of {before.sum()}" for before, after in parts]


def panels(table: pd.DataFrame) -> list[tuple[str, list[probe.show.Interval]]]:
    """Each measure's differences to plain, as the figure shows them."""
    names = nursed(table)
    found = {measure: [(name, estimate(table, name, measure)) for name in names] for measure in list(MEASURES)[:3]}
    return [
        (f"{MEASURES[m]}, minus plain", [probe.show.Interval(n, e.difference, e.low, e.high) for n, e in rows])
        for m, rows in found.items()
    ]
