"""How often a classifier reads which label where which is true: its measured error, as counts."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from probe.errors import BadInput

PRIOR = 0.5  # pictures of each label, as in Jeffreys' prior: a share of 0 or 1 keeps an interval
APART = 0.1  # smallest singular value of the rates from which on labels can be told apart


@dataclass(frozen=True)
class Confusion:
    """Counts [true][read] of one attribute on pictures whose label is known, and where those are from.

    `unread`: pictures of each true label in which nothing was read; they are in no count.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    source: str = ""
    unread: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.labels)
        if size < 2 or len(self.counts) != size or any(len(row) != size for row in self.counts):
            raise BadInput(f"{size} labels need counts of {size} x {size}, two labels at least; found {self.counts}")
        if min(map(min, self.counts)) < 0:
            raise BadInput(f"counts are numbers of pictures, 0 or more; found {self.counts}")
        missing = [label for label, row in zip(self.labels, self.counts, strict=True) if sum(row) == 0]
        if missing:
            raise BadInput(
                f"no labelled picture of {', '.join(missing)} was read; add some, so that its error is known"
            )

    @property
    def rates(self) -> np.ndarray:
        """[true, read] shares; each row sums to 1."""
        counts = np.asarray(self.counts, float)
        return counts / counts.sum(1, keepdims=True)

    def drawn(self, rng: np.random.Generator, draws: int) -> np.ndarray:
        """[draw, true, read] rates as they might have been measured on other pictures (Dirichlet, Jeffreys' prior)."""
        return np.stack([rng.dirichlet(np.asarray(row) + PRIOR, draws) for row in self.counts], 1)

    @property
    def accuracy(self) -> float:
        """The mean over labels of how often each is read rightly."""
        return float(np.diag(self.rates).mean())

    @property
    def total(self) -> int:
        """Pictures that were read."""
        return int(np.sum(self.counts))

    def check_tells_apart(self) -> None:
        """Raise BadInput when the shares could not be got back from what is read."""
        least = float(np.linalg.svd(self.rates, compute_uv=False)[-1])
        if least < APART:
            raise BadInput(
                f"the classifier cannot tell {', '.join(self.labels)} apart (smallest singular value of its confusion "
                f"matrix {least:.2f}, at least {APART} is needed): take another classifier, or fewer labels"
            )

    def data(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Any) -> "Confusion":
        """Back from `data()`. Raises BadInput."""
        try:
            labels, rows = tuple(map(str, data["labels"])), tuple(tuple(map(int, row)) for row in data["counts"])
            return cls(labels, rows, str(data.get("source", "")), tuple(map(int, data.get("unread", ()))))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"this is not a confusion matrix ({error}); expected labels, counts and source") from error

    def __str__(self) -> str:
        wide = max(map(len, self.labels)) + 2
        head = " " * wide + "".join(f"{label:>{wide}}" for label in self.labels)
        rows = [
            f"{label:<{wide}}" + "".join(f"{count:>{wide}}" for count in row)
            for label, row in zip(self.labels, self.counts, strict=True)
        ]
        lost = f", {sum(self.unread):,} more unread" if sum(self.unread) else ""
        said = f"mean of labels read rightly {self.accuracy:.1%}, of {self.total:,} pictures ({self.source}){lost}"
        return "\n".join([f"true (down), read (across); {said}", head, *rows])
