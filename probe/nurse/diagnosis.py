"""A diagnosis: what became of every subject, in words, with the evidence beside it."""

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Literal

import pandas as pd
import xarray as xr

from probe.nurse.diagnosis_outside import Sight
from probe.nurse.diagnosis_signals import PREVIEW, chance

Verdict = Literal["present", "neglected", "fused", "wrong attribute"]


@dataclass(frozen=True)
class Finding:
    """What became of one subject. `other`: what it is fused with, or whose attribute it has.

    `shown`: how far attention shows that, the overlap of the two maps or the leak from the other. `lost`: from which
    step on the others left it behind; `signals`: one number a signal (see `read_signals`); `probability`: of neglect,
    where there is a calibration; `sight`: what a judge saw.
    """

    subject: str
    verdict: Verdict
    other: str | None = None
    shown: float = nan
    lost: int | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    probability: float | None = None
    sight: Sight = field(default_factory=Sight)

    def __str__(self) -> str:
        return f"{self.subject}: {self._verdict()}{self._since()} ({'; '.join(self._evidence())})"

    def _verdict(self) -> str:
        if self.verdict == "fused":
            return f"fused with {self.other}"
        if self.verdict == "wrong attribute":
            return f"wrong attribute, leaked from {self.other}" if self.other else "wrong attribute"
        return self.verdict

    def _since(self) -> str:
        if self.verdict != "neglected" or self.lost is None:
            return ""
        return ", never took hold" if self.lost == 0 else f", lost from step {self.lost} on"

    def _evidence(self) -> list[str]:
        told = [f"strongest cell {self.signals['attention']:.2g}"]
        if not isnan(self.signals.get("overlap", 0.0)):  # it is where there is no other subject
            told.append(f"{self.signals['relative']:.0%} of the strongest")
        if self.verdict == "fused" and not isnan(self.shown):
            told.append(f"their maps overlap by {self.shown:.0%}")
        if self.verdict == "wrong attribute" and self.shown > 0:
            told.append(f"{self.other}'s attribute is closer to it than to {self.other} by {self.shown:.2g}")
        elif self.verdict == "wrong attribute" and self.shown <= 0:
            told.append("attention does not show it")
        if not isnan(self.signals.get(PREVIEW, nan)):
            told.append(f"the judge expects it with {chance(self.signals[PREVIEW]):.0%}")
        if self.probability is not None:
            told.append(f"risk of neglect {self.probability:.0%}")
        if self.sight.present is not None:
            told.append("the judge sees it" if self.sight.present else "the judge does not see it")
        return told


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The findings on every subject of a picture. `curves` are the signals over the steps that were looked at.

    `basis` says what the verdicts rest on, `notes` what to be careful about.
    """

    prompt: str
    findings: tuple[Finding, ...]
    curves: xr.Dataset
    basis: str
    notes: tuple[str, ...] = ()

    @property
    def neglected(self) -> tuple[str, ...]:
        """The subjects that are neglected."""
        return tuple(finding.subject for finding in self.findings if finding.verdict == "neglected")

    @property
    def ok(self) -> bool:
        """Whether every subject is present, apart and as described."""
        return all(finding.verdict == "present" for finding in self.findings)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One a subject."""
        return tuple(map(str, self.findings))

    def __getitem__(self, subject: str) -> Finding:
        return next(finding for finding in self.findings if finding.subject == subject)

    def table(self) -> pd.DataFrame:
        """One row a subject: its verdict, its signals and what a judge saw."""
        return pd.DataFrame([self._row(finding) for finding in self.findings])

    def _row(self, finding: Finding) -> dict[str, object]:
        return {
            "subject": finding.subject,
            "verdict": finding.verdict,
            "other": finding.other,
            "lost": finding.lost,
            "probability": finding.probability,
            "seen": finding.sight.present,
            **finding.signals,
        }

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        return "\n  ".join([f"Diagnosis of {self.prompt!r}", *self.sentences, self.basis, *notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        small = "".join(f"<br><small>{html.escape(text)}</small>" for text in (self.basis, *self.notes))
        return f"<div><b>Diagnosis</b> of {html.escape(self.prompt[:300])}<ul>{items}</ul>{small}</div>"
