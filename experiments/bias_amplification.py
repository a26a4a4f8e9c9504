"""Does guidance amplify the bias of the training data, and by how much? All planted professions of Menagerie.

Menagerie was shown known shares of men, women and skin tones in each profession, so "more than in the data" is exact.
Every picture is read by Menagerie's judge, whose error is measured on rendered scenes and taken out of the shares; all
scales share their noises. All professions and scales are drawn at a seed before the next seed, so `--minutes 45`, or
an interruption, leaves whole seeds, and only whole ones are audited. The readings are kept in experiments/results, a
file for the weights: a later run draws the seeds that are missing. It is a bias study in --out, which `probe study` can
look at. A picture that failed keeps its seed from being whole: it is told why, and `--retry` draws it again. `--write`
keeps the readings and puts table and figures into docs. Run it from the root of the repository; to try it out:
`--small`, whose numbers mean nothing.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import probe
from experiments import kept
from probe.bias import Audit
from probe.bias.audits import tidy
from probe.bias.question import reference_of
from probe.bias.tables import Known
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.card import insert
from probe.study import Study
from probe.study.drive import Progress

SCALES = (1.0, 3.0, 7.5)  # the first is the conditional prediction alone
AIM = 200  # pictures of each profession at each scale
PAGE, FIGURES = Path("docs/bias.md"), Path("docs/images")
ATTRIBUTES = ("gender", "tone")
PICTURE = ["steps", "guidance", "group", "seed"]  # what names a reading
READ = [f"perceived_{attribute}" for attribute in ATTRIBUTES]
LIMITS = """**What this does not show.** One small model, trained on drawings of one world: whether a large model
amplifies what photographs hold, and by how much, is not answered. Amplification is of the label that most have in the
data, as the mean over the professions in which one label leads; single ones may go the other way. "More than in the
data" holds for a model that was trained to the end: part of a difference at the first scale may be what it has not
learned. The judge's error was measured on rendered scenes, which are sharper than generated pictures; pictures in which
it sees nobody are left out, and if guidance decides whom it sees, that is part of the change. Two labels of gender and
six of tone are what the world has, not what people are."""


class Enough(Exception):
    """The minutes are over."""


def study(given: argparse.Namespace, seeds: Any = None) -> Study:
    """The question as data; of all seeds, or of these."""
    return probe.bias.study(
        probe.bias.PLANTED,
        name="bias-amplification",
        question="Does guidance amplify the bias of the training data, and by how much?",
        seeds=given.seeds if seeds is None else seeds,
        guidance=given.scales,
        steps=(given.steps,),
        batch=given.batch,
        order="seeds",
        keep=(),
        folder=str(given.out),
    )


def whole(rows: pd.DataFrame, made: Study) -> pd.DataFrame:
    """The readings of those seeds at which every profession was read at every scale, in the order of the study."""
    jobs = [row.columns["group"] for row in made.rows]
    mine = rows.loc[rows["steps"].isin(made.steps) & rows["guidance"].isin(made.guidance) & rows["group"].isin(jobs)]
    count = mine.groupby("seed")["group"].transform("size")
    mine = mine.loc[(count == len(jobs) * len(made.guidance)) & mine["seed"].isin(made.seeds)]
    place = {job: i for i, job in enumerate(jobs)}
    return mine.sort_values(
        ["guidance", "group", "seed"], key=lambda each: each.map(place) if each.name == "group" else each
    )


def drawn(given: argparse.Namespace, made: Study) -> pd.DataFrame:
    """All readings that there are: those kept, and those of the seeds that were missing, as far as the minutes went."""
    old = kept.read(given.kept, [*PICTURE, *READ])
    done = set(whole(old, made)["seed"])
    left = [seed for seed in made.seeds if seed not in done]
    if not left:
        return old
    missing, end = study(given, left), time.monotonic() + 60 * given.minutes

    def look(progress: Progress) -> None:
        if time.monotonic() > end:
            raise Enough

    try:
        print(missing.run(device=given.device, on_job=look, retry=given.retry))
    except Enough:
        print(f"the {given.minutes:g} minutes are over; {missing.status()}")
    table = missing.table()
    for line in failures(table):
        print(line)
    new = table.loc[table["status"] == "done"].reindex(columns=[*PICTURE, *READ])
    return kept.merged(old, new, PICTURE)


def failures(table: pd.DataFrame) -> Iterator[str]:
    """Which pictures of a study failed, why, and what to do."""
    bad = table.loc[table["status"] != "done"]
    for row in bad.to_dict("records"):
        yield f"{row['group']}, guidance {row['guidance']:g}, seed {row['seed']}: {row['status']}: {row['reason']}"
    if len(bad):
        seeds = ", ".join(map(str, sorted(set(bad["seed"]))))
        yield f"so the seeds {seeds} are not whole and are left out; --retry draws these pictures again"


def audited(readings: pd.DataFrame, made: Study, each: int) -> Audit:
    """What the readings say. `each`: rendered scenes of each kind, on which the judge's error is measured."""
    judge = probe.bias.MenagerieJudge()
    same = {
        "status": "done",
        "model": made.models[0].name,
        "method": "plain",
        "template": made.rows[0].columns["template"],
    }
    known = Known(judge.labels, probe.bias.measure_rendered(judge, each), reference_of(made))
    return Audit(**{**vars(tidy(readings.assign(**same), known)), "classifier": judge.name})


def page(audit: Audit, made: Study) -> str:
    """What it rests on, the answer, its tables, and its limits."""
    seeds = int(audit.cells["pictures"].min())
    short = f" {AIM} seeds are the aim: **this rests on fewer**, which widens the intervals." if seeds < AIM else ""
    told = (
        f"{len(made.rows)} professions x {seeds} seeds x {len(made.guidance)} scales, {made.steps[0]} steps, "
        f"weights {weights.revision()[:12]}; {_unread(audit):,} pictures with nobody to read. Read by "
        f"{audit.classifier}; {audit.confidence:.0%} intervals, with the classifier's error in them.{short}"
    )
    parts = [part for name in ATTRIBUTES for part in (answer(audit, name), overall(audit, name))]
    return "\n\n".join(
        [told, *parts, "![Shares by profession and guidance](images/bias_gender.png)", by_group(audit), LIMITS]
    )


def answer(audit: Audit, attribute: str) -> str:
    """Whether the last scale amplifies more than the first, in one sentence."""
    rows = audit.overall.loc[audit.overall["attribute"] == attribute].to_dict("records")
    first, last = rows[0], rows[-1]
    low, high = last["change_low"], last["change_high"]
    verdict = "amplifies" if low > 0 else "diminishes" if high < 0 else "is not shown to change"
    return (
        f"**{attribute.capitalize()}: guidance {verdict} the bias.** From guidance {first['guidance']:g} to "
        f"{last['guidance']:g} the mean amplification changes by {_points(last['change'])} percentage points "
        f"({_points(low)} to {_points(high)})."
    )


def overall(audit: Audit, attribute: str) -> str:
    """Mean amplification at each scale."""
    rows = audit.overall.loc[audit.overall["attribute"] == attribute].to_dict("records")
    head = f"| guidance | mean amplification of {attribute} | against guidance {rows[0]['guidance']:g} | professions |"
    lines = [f"| {row['guidance']:g} | {_span(row)} | {_span(row, 'change')} | {row['groups']} |" for row in rows]
    return "\n".join([head, "| --- | --- | --- | --- |", *lines])


def by_group(audit: Audit) -> str:
    """The share of men by profession and scale, beside the planted one."""
    men = audit.shares.loc[(audit.shares["attribute"] == "gender") & (audit.shares["label"] == "man")]
    scales = list(dict.fromkeys(men["guidance"]))
    head = f"| profession | in the data | {' | '.join(f'guidance {scale:g}' for scale in scales)} |"
    rule = "| --- |" + " --- |" * (1 + len(scales))
    return "\n".join(["Share perceived as men, corrected for the judge's error:", "", head, rule, *_lines(men, scales)])


def _lines(men: pd.DataFrame, scales: Sequence[float]) -> Iterator[str]:
    for group, rows in men.groupby("group", sort=False):
        found = {row["guidance"]: row for row in rows.to_dict("records")}
        cells = [_share(found[scale]) for scale in scales]
        yield f"| {group} | {rows['reference'].iloc[0]:.2f} | {' | '.join(cells)} |"


def _share(row: dict[str, float]) -> str:
    return f"{row['corrected']:.2f} ({row['corrected_low']:.2f} to {row['corrected_high']:.2f})"


def _span(row: dict[str, Any], name: str = "amplification") -> str:
    before = "change_" if name == "change" else ""
    low, high = row[f"{before}low"], row[f"{before}high"]
    return f"{row[name]:+.3f} ({low:+.3f} to {high:+.3f})" if low < high else ""


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _unread(audit: Audit) -> int:
    return int(audit.cells.loc[audit.cells["attribute"] == "gender", "unread"].sum())


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=f"0-{AIM - 1}", help="pictures of each profession at each scale")
    parser.add_argument(
        "--scales", type=float, nargs="+", default=list(SCALES), help="guidance, the first to compare with"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=10, help="pictures at once")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="draw no longer than that")
    parser.add_argument("--each", type=int, default=10, help="rendered scenes of each profession, gender and tone")
    parser.add_argument("--out", type=Path, default=Path("out/bias-amplification"), help="the folder of the study")
    parser.add_argument("--device", help="where it runs, e.g. cuda")
    parser.add_argument("--retry", action="store_true", help="draw pictures again that failed before")
    parser.add_argument("--small", action="store_true", help="two seeds, two scales, four steps: to see that it runs")
    parser.add_argument("--write", action="store_true", help=f"put table and figures into {PAGE} and {FIGURES}")
    given = parser.parse_args(argv)
    kept.refuse_rehearsal(given)
    given.kept = kept.place("bias_amplification")
    if given.small:
        given.seeds, given.scales, given.steps, given.each = "0-1", [1.0, 5.0], 4, 1
        given.kept = given.out / "none.csv"
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    made = study(given)
    rows = drawn(given, made)
    read = whole(rows, made)
    if read.empty:
        raise BadInput(
            f"of {len(rows)} readings no seed has all {len(made.rows)} professions at all {len(made.guidance)} scales, "
            f"so there is nothing to audit; go on with more --minutes (what was drawn stays in {made.path})"
        )
    audit = audited(read, made, given.each)
    audit.save(made.path)
    content = page(audit, made)
    print(content)
    for attribute in ATTRIBUTES:
        audit.figure(attribute).savefig((FIGURES if given.write else made.path) / f"bias_{attribute}.png")
    if given.write:
        kept.write(given.kept, rows)
        PAGE.write_text(insert(PAGE.read_text(), content))


if __name__ == "__main__":
    main()
