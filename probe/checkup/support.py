"""Which pipelines were tried, and what each showed: measured by `python -m experiments.support_table --write`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

HONESTY = "verified on tiny pipelines with random weights of the real classes, not on the published weights"
NOTE = """\
Each row is what `python -m experiments.support_table` measured on **tiny pipelines with random weights of the real
diffusers classes**, saved, loaded and run for two steps with a real prompt; not on the published weights, except for
Menagerie. Each gave readings at every site and step, drew a bit-identical picture and was left without hooks; the test
suite repeats this. The layout of a model that is not listed is inferred from its modules, or the model is refused with
an error that says how to describe it; `probe doctor MODEL` tries yours."""
HEAD = ("family", "pipelines of diffusers", "with", "sites with text / attention modules", "branches", "relations")


@dataclass(frozen=True)
class Support:
    """What one tiny pipeline showed. `extra`: what was loaded on top of it."""

    name: str
    family: str
    pipeline: str
    extra: str
    sites: int
    modules: int
    branches: tuple[str, ...]
    relations: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A family: what all its pipelines showed."""

    family: str
    pipelines: tuple[str, ...]
    extras: tuple[str, ...]
    coverage: tuple[tuple[int, int], ...]  # sites with text, attention modules
    branches: tuple[str, ...]
    relations: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        """The row in words."""
        found = ", ".join(f"{sites or 'reads no text: 0'} / {modules}" for sites, modules in self.coverage)
        parts = (self.pipelines, self.extras, (found,), self.branches, self.relations)
        return (self.family, *(", ".join(part) or "none" for part in parts))


def shown() -> tuple[Support, ...]:
    """What the tiny pipelines showed when the table was last written."""
    text = resources.files("probe.checkup").joinpath("support.json").read_text(encoding="utf-8")
    return tuple(map(_read, json.loads(text)))


def _read(line: dict[str, Any]) -> Support:
    lists: dict[str, Any] = {name: tuple(value) for name, value in line.items() if isinstance(value, list)}
    return Support(**line | lists)


def dumped(lines: Sequence[Support]) -> str:
    """The lines as `shown` reads them, one a line."""
    return "[\n" + ",\n".join(json.dumps(vars(line), ensure_ascii=False) for line in lines) + "\n]\n"


def families(lines: Sequence[Support] | None = None) -> tuple[Row, ...]:
    """One row a family, in the order of the lines."""
    every = shown() if lines is None else lines
    names = dict.fromkeys(line.family for line in every)
    return tuple(_row(name, [line for line in every if line.family == name]) for name in names)


def _row(family: str, lines: Sequence[Support]) -> Row:
    return Row(
        family=family,
        pipelines=tuple(dict.fromkeys(line.pipeline.removesuffix("Pipeline") for line in lines)),
        extras=tuple(dict.fromkeys(line.extra for line in lines if line.extra)),
        coverage=tuple(dict.fromkeys((line.sites, line.modules) for line in lines)),
        branches=tuple(dict.fromkeys(branch for line in lines for branch in line.branches)),
        relations=tuple(dict.fromkeys(kind for line in lines for kind in line.relations)),
    )


def markdown(lines: Sequence[Support] | None = None) -> str:
    """The table of the README, with the sentence that says how it came about."""
    return f"{table(HEAD, [row.cells() for row in families(lines)])}\n\n{NOTE}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table in markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))
