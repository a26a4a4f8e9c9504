"""Can neglect be told from the first ten steps? Fits the probability that `probe.diagnose` gives, and prints its worth.

Two subjects a prompt, one picture each, of Menagerie; the judge says which subject came out. Rows are kept as they are
made, so the command goes on where it was interrupted. Every figure is cross-validated over prompts: no prompt is in
both halves. `--write` puts the coefficients beside `probe.nurse`, the table and the figure into docs. Run it from the
root of the repository; to try it out: `--pictures 8 --steps 4 --until 2`.
"""

import argparse
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import probe
from experiments.menagerie_card import GUIDANCE, pair_prompts, seen_pairs
from probe.errors import BadInput
from probe.generator import weights
from probe.generator.card import insert
from probe.nurse.diagnose import find_cast
from probe.nurse.diagnosis_calibration import SHIPPED, Calibration
from probe.nurse.diagnosis_signals import read_signals, summary
from probe.study.results import replace_file
from probe.study.rows import encode_rows

PEAKS = ("presence", "attention", "relative")
SIGNALS = (*PEAKS, "share", "kept", "overlap")  # what every trace of a cross-attention holds, and Adaptive sees
FIRST_SEED = 100_000  # apart from the seeds of the benchmark
LEAST = 500  # pictures that a calibration has to rest on before it is shipped
FOLDS, RESAMPLES, BINS = 5, 1000, 8
PAGE, FIGURE = Path("docs/diagnosis.md"), Path("docs/images/diagnosis.png")
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


def collect(folder: Path, pictures: int, *, steps: int, until: int, device: str | None = None) -> pd.DataFrame:
    """One row a subject. What is there already is read, what is missing is drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(pictures) if not _place(folder, i).is_file()]
    if missing:
        pipe, judge = probe.load(device=device), weights.judge()
        for number in track(missing, "drawing", console=Console(stderr=True), transient=True):
            replace_file(_place(folder, number), encode_rows(measure(pipe, judge, number, steps=steps, until=until)))
    return pd.concat([pd.read_parquet(_place(folder, i)) for i in range(pictures)], ignore_index=True)


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.parquet"


def measure(pipe: Any, judge: Any, number: int, *, steps: int, until: int) -> Iterator[dict[str, Any]]:
    """The signals of both subjects of one picture, and whether the judge misses them."""
    pairs = seen_pairs(LEAST)
    pair, prompt = pairs[number % len(pairs)], pair_prompts(pairs)[number % len(pairs)]
    seed = FIRST_SEED + number
    with probe.record(pipe, words=["*"], steps=slice(0, until)) as recording:
        rng = torch.Generator().manual_seed(seed)
        picture = pipe(prompt, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=rng).images[0]
    trace, verdict = recording.trace, judge.read(picture)
    signals = read_signals(trace, find_cast(trace, pair), until=until)
    for kind in pair:
        base = {"picture": number, "prompt": prompt, "seed": seed, "subject": kind}
        yield base | {"neglected": not verdict.has(kind)} | summary(signals, kind)


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
        until=until,
        steps=steps,
        auc=best.auc,
        pictures=int(rows["picture"].nunique()),
        model="menagerie",
        weights=weights.revision(),
    )


def page(rows: pd.DataFrame, fits: Sequence[Fit], *, steps: int, until: int) -> str:
    """The table with what it rests on."""
    share = statistics.mean(rows["neglected"])
    told = (
        f"{rows['picture'].nunique()} pictures of two subjects each, {rows['prompt'].nunique()} prompts; signals of "
        f"the first {until} of {steps} steps; {share:.0%} of the subjects are neglected, as Menagerie's judge sees "
        f"it (weights {weights.revision()[:12]}). Probabilities are cross-validated over prompts; for the intervals "
        "prompts are drawn anew."
    )
    return "\n".join([told, "", HEAD, *map(str, fits)])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=LEAST)
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of each picture")
    parser.add_argument("--until", type=int, default=10, help="how many of them are looked at")
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=list(SIGNALS), help="for the shipped fit")
    parser.add_argument("--out", type=Path, default=Path("out/calibration"), help="where the rows are kept")
    parser.add_argument("--device", help="where it draws, e.g. cuda")
    parser.add_argument("--write", action="store_true", help=f"write {SHIPPED.name}, {PAGE} and {FIGURE}")
    return parser.parse_args(argv)


def _shipped(signals: list[str], combined: dict[str, list[str]]) -> str:
    known = (told for told, names in combined.items() if names == signals)
    return f"shipped: {next(known, ', '.join(signals))}"


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.write and given.pictures < LEAST:
        raise BadInput(f"--write needs {LEAST} pictures or more, not {given.pictures}: fewer calibrate nothing")
    folder = given.out / f"{weights.revision()[:12]}-{given.until}-of-{given.steps}"
    span = {"steps": given.steps, "until": given.until}
    rows = collect(folder, given.pictures, device=given.device, **span)
    combined = {"largest cells only": list(PEAKS), "all of them": list(SIGNALS)}
    chosen = fit(rows, given.signals, _shipped(given.signals, combined))
    fits = [*(fit(rows, [name]) for name in SIGNALS), chosen]
    fits += [fit(rows, names, told) for told, names in combined.items() if names != given.signals]
    content = page(rows, fits, **span)
    print(content)
    if given.write:
        made = calibrated(rows, chosen, signals=given.signals, **span)
        SHIPPED.write_text(made.model_dump_json(indent=2) + "\n")
        PAGE.write_text(insert(PAGE.read_text(), content))
        probe.show.prediction_curves([each.predictor() for each in fits]).savefig(FIGURE)


if __name__ == "__main__":
    main()
