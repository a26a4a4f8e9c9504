"""What keeps one job's trouble from the others: whatever it raises is caught, what it warns of is noted."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import TracebackType
from typing import Self

from probe.errors import ProbeWarning


class Caught:
    """Catches what a job raises, whatever it is, and keeps its words only: an error that is kept keeps the model.

    This is the one place that catches every Exception, because a study has to survive what it cannot foresee. Ctrl-C
    and the end of the interpreter pass through.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        self.reason = f"{type(error).__name__}: {error}"
        return True


@contextmanager
def noted() -> Iterator[list[str]]:
    """What `probe` warns of while a job runs belongs to its row; other warnings go where they would."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", ProbeWarning)
        yield notes
    for warning in heard:
        if issubclass(warning.category, ProbeWarning):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def free() -> None:
    """Give back what memory can be given back."""
    gc.collect()
    torch = import_module("torch")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
