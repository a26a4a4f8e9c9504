"""The table of a model card: figures beside the bars they have to clear, in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from probe.errors import BadInput
from probe.generator.measure import interval

MARKS = ("<!-- table -->", "<!-- /table -->")
HEAD = (
    "| figure | measured | 95 % interval | bar | met | count | options |\n| --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Bar:
    """The range that a figure has to fall into."""

    low: float | None = None
    high: float | None = None

    def met(self, value: float) -> bool:
        """Whether the value is in it; NaN never is."""
        above = value >= (float("-inf") if self.low is None else self.low)
        return above and value <= (float("inf") if self.high is None else self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f">= {self.low:g}" if self.low is not None else f"<= {self.high:g}"


@dataclass(frozen=True)
class Line:
    """One row. It rests on `count` pictures or things; where it is a share, `hits` of them were right."""

    figure: str
    value: float
    count: int
    bar: Bar | None = None
    hits: int | None = None
    options: str = ""  # of the command that prints it

    @property
    def met(self) -> bool | None:
        """None without a bar."""
        return None if self.bar is None else self.bar.met(self.value)

    def __str__(self) -> str:
        """A row of a Markdown table."""
        low, high = interval(self.hits or 0, self.count)
        doubt = f"{low:.2f} to {high:.2f}" if self.hits is not None else ""
        met = {None: "", True: "yes", False: "no"}[self.met]
        return (
            f"| {self.figure} | {self.value:.3g} | {doubt} | {self.bar or ''} | {met} | {self.count} | {self.options} |"
        )


def share(figure: str, right: Sequence[bool], bar: Bar | None = None) -> Line:
    """A row that counts how often something was right; NaN when it was never tried."""
    value = sum(right) / len(right) if right else float("nan")
    return Line(figure, value, len(right), bar, sum(right))


def table(lines: Iterable[Line | str]) -> str:
    """The rows under their head."""
    return "\n".join([HEAD, *map(str, lines)])


def insert(page: str, content: str, marks: tuple[str, str] = MARKS) -> str:
    """The page with what stands between the marks replaced. Raises BadInput when it lacks them."""
    before, _, after = _parted(page, marks)
    return f"{before}{marks[0]}\n{content}\n{marks[1]}{after}"


def merge(page: str, lines: Sequence[Line], of: str) -> str:
    """The page with these rows in its table; `of` names what was measured. Raises BadInput as `insert` does.

    Other rows of the same stay, those of another are dropped.
    """
    mark = f"<!-- of {of} -->"
    old = _parted(page)[1]
    rows = (_rows(old) if mark in old else {}) | {line.figure: str(line) for line in lines}
    return insert(page, f"{mark}\n{table(rows.values())}")


def _parted(page: str, marks: tuple[str, str] = MARKS) -> tuple[str, str, str]:
    """What stands before, between and after the marks."""
    before, start, rest = page.partition(marks[0])
    between, end, after = rest.partition(marks[1])
    if not (start and end):
        raise BadInput(f"the page has no {marks[0]} ... {marks[1]}; put the two lines where the table belongs")
    return before, between, after


def _rows(text: str) -> dict[str, str]:
    """The rows of a table by their figure."""
    rows = [row for row in text.splitlines() if row.startswith("| ") and row not in HEAD]
    return {row.removeprefix("| ").partition(" |")[0]: row for row in rows}
