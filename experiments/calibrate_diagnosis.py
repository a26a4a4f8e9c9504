"""Can neglect be told from the first ten steps? Fits the probability that `probe.diagnose` gives, and prints its worth.

Two subjects a prompt, one picture each, of Menagerie; the judge says which subject came out. Two fits are shipped: of
attention alone, and with what the judge expects when it is shown the picture that the last of these steps predicts.
Of the first `--explained` of them it is also asked whether relevancy and leaving a word out would tell; if these are
enough, a third fit is shipped, of attention and relevancy.
Rows are kept as they are made, so the command goes on where it was interrupted. Every figure is cross-validated over
prompts: no prompt is in both halves. `--write` puts the coefficients beside `probe.nurse`, the table and the figures
into docs. Run it from the root of the repository; to try it out: `--pictures 8 --steps 4 --until 2`.
"""

import argparse
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import calibration_curve
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, precision_recall_curve, roc_auc_score, roc_curve
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import probe
from experiments.diagnosis_rows import LEAST, collect, explain, measure, with_explained
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.card import insert
from probe.nurse.diagnosis_calibration import SHIPPED, Calibration, Kind
from probe.nurse.diagnosis_signals import EXPLAINED, PREVIEW, RELEVANCY
from probe.study.results import replace_file

PEAKS = ("presence", "attention", "relative")
ATTENDED = (*PEAKS, "share", "lead", "kept", "overlap")  # what every trace of a cross-attention holds
SIGNALS = ("relative", "lead", "kept", "overlap")  # of the shipped fits; chosen among ATTENDED, on these very pictures
PARTLY = ("leak", *EXPLAINED)  # known of some subjects only: with an attribute beside them, or explained
NAMED: Mapping[Kind, str] = {"attention": "attention", "relevancy": "with relevancy", "preview": "look ahead"}
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
    signals: tuple[str, ...] = ()

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


def partly(rows: pd.DataFrame) -> list[Fit]:
    """Fits of the signals that are known of some subjects only, by these."""
    known = {name: rows.loc[rows[name].notna()] for name in PARTLY if name in rows}
    return [fit(some, [name], f"{name}, of {len(some)} subjects") for name, some in known.items() if len(some)]


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
    return Fit(name or ", ".join(signals), truth, found[:, 1], groups, tuple(signals))


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


def calibrated(rows: pd.DataFrame, best: Fit, *, steps: int, until: int) -> Calibration:
    """The coefficients of a fit to all rows, with the cross-validated area."""
    signals = best.signals
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


def shippable(rows: pd.DataFrame, signals: Sequence[str]) -> dict[Kind, Fit]:
    """The fits that are shipped: of these signals, and with relevancy (where enough pictures have it) or the look."""
    explained = RELEVANCY in rows and rows.loc[rows[RELEVANCY].notna(), "picture"].nunique() >= LEAST
    more: dict[Kind, tuple[str, ...]] = {"attention": (), "relevancy": (RELEVANCY,), "preview": (PREVIEW,)}
    kinds: list[Kind] = [kind for kind in more if kind != "relevancy" or explained]
    return {kind: fit(rows, [*signals, *more[kind]], f"{NAMED[kind]}, shipped") for kind in kinds}


def page(
    rows: pd.DataFrame,
    fits: Sequence[Fit],
    shipped: Mapping[Kind, Fit],
    *,
    steps: int,
    until: int,
) -> str:
    """The table with what it rests on."""
    share = statistics.mean(rows["neglected"])
    bars = "; ".join(f"{NAMED[kind]} {at_threshold(found)}" for kind, found in shipped.items())
    signals = ", ".join(shipped["attention"].signals)
    told = (
        f"{rows['picture'].nunique()} pictures of two subjects each, {rows['prompt'].nunique()} prompts; signals of "
        f"the first {until} of {steps} steps; {share:.0%} of the subjects are neglected, as Menagerie's judge sees "
        f"it (weights {weights.revision()[:12]}). Probabilities are cross-validated over prompts; for the intervals "
        f"prompts are drawn anew. Shipped are fits of {signals}, alone or with one signal more. A subject "
        f"counts as neglected where F1 is largest: {bars}."
    )
    return "\n".join([told, "", HEAD, *map(str, (*fits, *shipped.values()))])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=LEAST)
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of each picture")
    parser.add_argument("--until", type=int, default=10, help="how many of them are looked at")
    parser.add_argument("--signals", nargs="+", choices=ATTENDED, default=list(SIGNALS), help="for the shipped fits")
    parser.add_argument("--explained", type=int, default=0, help="pictures whose words are also explained")
    parser.add_argument("--out", type=Path, default=Path("out/calibration"), help="where the rows are kept")
    parser.add_argument("--device", help="where it draws, e.g. cuda")
    files = f"{', '.join(path.name for path in SHIPPED.values())}, {PAGE} and its figures"
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
    shipped = shippable(rows, given.signals)
    single = [fit(rows, [name]) for name in (*ATTENDED, PREVIEW)]
    fits = [*single, *partly(rows), fit(rows, PEAKS, "largest cells only")]
    content = page(rows, fits, shipped, **span)
    print(content)
    if given.write:
        made = {kind: calibrated(rows, best, **span) for kind, best in shipped.items()}
        for kind, calibration in made.items():
            replace_file(SHIPPED[kind], (calibration.model_dump_json(indent=2) + "\n").encode())
        PAGE.write_text(insert(PAGE.read_text(), content))
        ranked = sorted((*fits, *shipped.values()), key=lambda each: each.auc)
        for path, some in ((FIGURE, ranked[-DRAWN:]), (OTHERS, ranked[:-DRAWN])):
            probe.show.prediction_curves([each.predictor() for each in some]).savefig(path)


if __name__ == "__main__":
    main()
