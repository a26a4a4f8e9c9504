"""Can neglect be told from the first ten steps? Fits the probability that `probe.diagnose` gives, and prints its worth.

Two subjects a prompt, one picture each, of Menagerie; the judge says which subject came out. Two fits are shipped: of
attention alone, and with what the judge expects when it is shown the picture that the last of these steps predicts.
Of the first `--explained` of them it is also asked whether relevancy and leaving a word out would tell.
Rows are kept as they are made, so the command goes on where it was interrupted. Every figure is cross-validated over
prompts: no prompt is in both halves. `--write` puts the coefficients beside `probe.nurse`, the table and the figures
into docs. Run it from the root of the repository; to try it out: `--pictures 8 --steps 4 --until 2`.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from sklearn.calibration import calibration_curve
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, precision_recall_curve, roc_auc_score, roc_curve
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import probe
from experiments.menagerie_pictures import GUIDANCE
from experiments.menagerie_prompts import pair_prompts, seen_pairs
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.card import insert
from probe.nurse.diagnose import find_cast
from probe.nurse.diagnosis_ahead import preview
from probe.nurse.diagnosis_calibration import SHIPPED, SHIPPED_PREVIEW, Calibration
from probe.nurse.diagnosis_signals import EXPLAINED, PREVIEW, read_signals, summary
from probe.study.results import replace_file
from probe.study.rows import encode_rows

PEAKS = ("presence", "attention", "relative")
ATTENDED = (*PEAKS, "share", "lead", "kept", "overlap")  # what every trace of a cross-attention holds
SIGNALS = ("relative", "lead", "kept", "overlap")  # of the shipped fits; chosen among ATTENDED, on these very pictures
PARTLY = ("leak", *EXPLAINED)  # known of some subjects only: with an attribute beside them, or explained
FIRST_SEED = 100_000  # apart from the seeds of the benchmark
LEAST = 500  # pictures that a calibration has to rest on before it is shipped
FOLDS, RESAMPLES, BINS = 5, 1000, 8
DRAWN = 8  # fits a figure, as many as there are ways to draw a line
PAGE, FIGURE = Path("docs/diagnosis.md"), Path("docs/images/diagnosis.png")
OTHERS = Path("docs/images/diagnosis-others.png")
HEAD = "| signal | ROC AUC | 95 % interval | Brier score |\n| --- | --- | --- | --- |"


@dataclass(frozen=True)
class Fit:
    """A signal, or several, as a predictor of neglect: out-of-fold probabilities beside what was."""

    name: str
    neglected: np.ndarray
    probability: np.ndarray
    prompts: np.ndarray

    @property
    def auc(self) -> float:
        """The area below the ROC curve."""
        return float(roc_auc_score(self.neglected, self.probability))

    @property
    def brier(self) -> float:
        """The mean squared distance of probability and truth."""
        return float(brier_score_loss(self.neglected, self.probability))

    def interval(self) -> tuple[float, float]:
        """Where the area may lie, 95 % sure: prompts drawn anew, with their pictures."""
        rng, names = np.random.default_rng(0), np.unique(self.prompts)
        places = {name: np.flatnonzero(self.prompts == name) for name in names}
        found = [
            self._area(np.concatenate([places[n] for n in rng.choice(names, len(names))])) for _ in range(RESAMPLES)
        ]
        low, high = np.nanquantile(found, (0.025, 0.975))
        return float(low), float(high)

    def _area(self, chosen: np.ndarray) -> float:
        truth = self.neglected[chosen]
        return np.nan if truth.all() or not truth.any() else roc_auc_score(truth, self.probability[chosen])

    def predictor(self) -> probe.show.Predictor:
        """The same as curves."""
        wrong, right, _ = roc_curve(self.neglected, self.probability)
        observed, predicted = calibration_curve(self.neglected, self.probability, n_bins=BINS, strategy="quantile")
        return probe.show.Predictor(self.name, self.auc, wrong, right, predicted, observed)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"| {self.name} | {self.auc:.3f} | {low:.3f} to {high:.3f} | {self.brier:.3f} |"


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


def partly(rows: pd.DataFrame) -> list[Fit]:
    """Fits of the signals that are known of some subjects only, by these."""
    known = {name: rows[rows[name].notna()] for name in PARTLY if name in rows and rows[name].notna().any()}
    return [fit(some, [name], f"{name}, of {len(some)} subjects") for name, some in known.items()]


def fit(rows: pd.DataFrame, signals: Sequence[str], name: str = "") -> Fit:
    """Out-of-fold probabilities of neglect by these signals. Raises BadInput where there is nothing to tell apart."""
    truth, groups = rows["neglected"].to_numpy(bool), rows["prompt"].to_numpy()
    folds = min(FOLDS, len(np.unique(groups)))
    if truth.all() or not truth.any() or folds < 2:
        raise BadInput(f"{truth.sum()} of {len(truth)} subjects are neglected; take more --pictures to tell them apart")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: Any = cross_val_predict(
            _model(), _inputs(rows, signals), truth, groups=groups, cv=GroupKFold(folds), method="predict_proba"
        )
    return Fit(name or ", ".join(signals), truth, found[:, 1], groups)


def _model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression())


def _inputs(rows: pd.DataFrame, signals: Sequence[str]) -> np.ndarray:
    values = rows[list(signals)].to_numpy(float)
    if not np.isfinite(values).all():
        bad = [name for name, column in zip(signals, values.T, strict=True) if not np.isfinite(column).all()]
        raise BadInput(f"{', '.join(bad)} is not known for every subject; leave it out: --signals")
    return values


def best_threshold(found: Fit) -> float:
    """The probability from which on subjects are best taken for neglected: where F1 is largest."""
    precision, recall, thresholds = precision_recall_curve(found.neglected, found.probability)
    f1 = 2 * precision * recall / np.clip(precision + recall, 1e-12, None)
    return float(thresholds[f1[:-1].argmax()])


def at_threshold(found: Fit) -> str:
    """How many are found from there on, and how many of those are neglected."""
    bar = best_threshold(found)
    taken = found.probability >= bar
    right = (taken & found.neglected).sum()
    return f"from {bar:.2f} on, where {right / found.neglected.sum():.0%} are found and {right / taken.sum():.0%} right"


def calibrated(rows: pd.DataFrame, best: Fit, *, signals: Sequence[str], steps: int, until: int) -> Calibration:
    """The coefficients of a fit to all rows, with the cross-validated area."""
    model = _model().fit(_inputs(rows, signals), rows["neglected"].to_numpy(bool))
    scaler, regression = model[0], model[1]
    return Calibration(
        signals=tuple(signals),
        mean=tuple(map(float, scaler.mean_)),
        scale=tuple(map(float, scaler.scale_)),
        coefficients=tuple(map(float, regression.coef_[0])),
        intercept=float(regression.intercept_[0]),
        threshold=best_threshold(best),
        until=until,
        steps=steps,
        auc=best.auc,
        pictures=int(rows["picture"].nunique()),
        model="menagerie",
        weights=weights.revision(),
    )


def page(
    rows: pd.DataFrame, fits: Sequence[Fit], shipped: Sequence[Fit], *, signals: Sequence[str], steps: int, until: int
) -> str:
    """The table with what it rests on."""
    share = statistics.mean(rows["neglected"])
    told = (
        f"{rows['picture'].nunique()} pictures of two subjects each, {rows['prompt'].nunique()} prompts; signals of "
        f"the first {until} of {steps} steps; {share:.0%} of the subjects are neglected, as Menagerie's judge sees "
        f"it (weights {weights.revision()[:12]}). Probabilities are cross-validated over prompts; for the intervals "
        f"prompts are drawn anew. Shipped are a fit of attention ({', '.join(signals)}) and one with a look ahead "
        f"({PREVIEW} too). A subject counts as neglected where F1 is largest: by attention {at_threshold(shipped[0])}; "
        f"with the look {at_threshold(shipped[1])}."
    )
    return "\n".join([told, "", HEAD, *map(str, (*fits, *shipped))])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=LEAST)
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of each picture")
    parser.add_argument("--until", type=int, default=10, help="how many of them are looked at")
    parser.add_argument("--signals", nargs="+", choices=ATTENDED, default=list(SIGNALS), help="for the shipped fits")
    parser.add_argument("--explained", type=int, default=0, help="pictures whose words are also explained")
    parser.add_argument("--out", type=Path, default=Path("out/calibration"), help="where the rows are kept")
    parser.add_argument("--device", help="where it draws, e.g. cuda")
    files = f"{SHIPPED.name}, {SHIPPED_PREVIEW.name}, {PAGE} and its figures"
    parser.add_argument("--write", action="store_true", help=f"write {files}")
    given = parser.parse_args(argv)
    if not 0 < given.until < given.steps:
        parser.error(f"--until is {given.until} of {given.steps} steps: nothing can be told ahead of the picture then")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.write and given.pictures < LEAST:
        raise BadInput(f"--write needs {LEAST} pictures or more, not {given.pictures}: fewer calibrate nothing")
    folder = given.out / f"{weights.revision()[:12]}-{given.until}-of-{given.steps}"
    span = {"steps": given.steps, "until": given.until}
    rows = collect(folder, given.pictures, partial(measure, **span), device=given.device)
    if given.explained:
        more = collect(folder / "explained", given.explained, partial(explain, **span), device=given.device)
        rows = with_explained(rows, more)
    looking = [*given.signals, PREVIEW]
    alone = fit(rows, given.signals, "attention, shipped")
    ahead = fit(rows, looking, "look ahead, shipped")
    single = [fit(rows, [name]) for name in (*ATTENDED, PREVIEW)]
    fits = [*single, *partly(rows), fit(rows, PEAKS, "largest cells only")]
    content = page(rows, fits, (alone, ahead), signals=given.signals, **span)
    print(content)
    if given.write:
        shipped = {SHIPPED: (alone, given.signals), SHIPPED_PREVIEW: (ahead, looking)}
        made = {path: calibrated(rows, best, signals=names, **span) for path, (best, names) in shipped.items()}
        for path, calibration in made.items():
            replace_file(path, (calibration.model_dump_json(indent=2) + "\n").encode())
        PAGE.write_text(insert(PAGE.read_text(), content))
        ranked = sorted((*fits, alone, ahead), key=lambda each: each.auc)
        for path, some in ((FIGURE, ranked[-DRAWN:]), (OTHERS, ranked[:-DRAWN])):
            probe.show.prediction_curves([each.predictor() for each in some]).savefig(path)


if __name__ == "__main__":
    main()
