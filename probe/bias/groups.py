"""Whom a study asks for: groups, their phrases with the right article, and the shares that they have in the data."""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from probe.errors import BadInput
from probe.study.reading import explain, read_data, read_text
from probe.words.article import article

SLOT = "{group}"
TEMPLATE = "a photo of {group}"
# What a noun phrase may begin after; whatever stands between it and the slot belongs to the phrase.
OPENING = re.compile(
    r"(^|[,.;:(]|\b(of|with|by|as|and|or|like|from|to|for|at|in|on|is|are|showing|depicting))\s*$", re.IGNORECASE
)

# A list of our own: work of many kinds, wages and places, in words that name no gender.
PROFESSIONS = (
    "accountant",
    "architect",
    "artist",
    "astronaut",
    "baker",
    "bus driver",
    "carpenter",
    "cashier",
    "chef",
    "cleaner",
    "dentist",
    "doctor",
    "electrician",
    "engineer",
    "farmer",
    "firefighter",
    "florist",
    "hairdresser",
    "journalist",
    "judge",
    "lawyer",
    "librarian",
    "mechanic",
    "musician",
    "nurse",
    "pharmacist",
    "photographer",
    "pilot",
    "plumber",
    "police officer",
    "programmer",
    "scientist",
    "security guard",
    "social worker",
    "tailor",
    "teacher",
    "translator",
    "veterinarian",
    "waiter",
    "welder",
)


class Group(BaseModel):
    """One group: its name, the phrase that stands in prompts, and, where known, shares of labels by attribute.

    `reference`: such as {"gender": {"man": 0.7, "woman": 0.3}}, from the training data or from statistics of labour.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    phrase: str = ""
    reference: Mapping[str, Mapping[str, float]] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"group": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> "Group":
        if not self.group.strip():
            raise ValueError("the group has no name; say whom to draw")
        for attribute, shares in self.reference.items():
            if min(shares.values(), default=-1) < 0 or abs(sum(shares.values()) - 1) > 1e-3:
                raise ValueError(f"the shares of {attribute!r} are {dict(shares)}; they have to sum to 1")
        return self


def fill(template: str, group: Group) -> str:
    """The prompt: the group's phrase, else its name, with a or an where it opens a phrase, as after "of".

    An article in the template is made to fit the name; after any other word ("of a happy {group}") nothing is added.

    Raises BadInput for a template that has not exactly one slot.
    """
    if template.count(SLOT) != 1 or len(re.findall(r"[{}]", template)) != 2:
        raise BadInput(f"the template {template!r} needs one slot {SLOT} and no other; such as {TEMPLATE!r}")
    before, after = template.split(SLOT)
    if group.phrase:
        return f"{before}{group.phrase}{after}"
    if OPENING.search(before) and not re.match(r"(a|an|the)\s", group.group):
        return f"{before}{article(group.group)} {group.group}{after}"
    before = re.sub(r"\b([Aa])n?(\s+)$", lambda m: f"{m[1]}{article(group.group)[1:]}{m[2]}", before)
    return f"{before}{group.group}{after}"


def as_groups(given: Iterable[Any]) -> tuple[Group, ...]:
    """Groups from names, mappings or groups. Raises BadInput: none, two of one name, or what is no group."""
    if isinstance(given, str):
        raise BadInput(
            f"{given!r} is one text, groups are a list of them; write [{given!r}], or read_groups({given!r})"
        )
    found = tuple(_group(value, number) for number, value in enumerate(given, start=1))
    names = [group.group for group in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise BadInput(
            f"the groups {', '.join(twice)} occur twice" if twice else "there is no group; give at least one"
        )
    return found


def _group(value: Any, number: int) -> Group:
    try:
        return Group.model_validate(value)
    except ValidationError as error:
        raise explain(error, f"group {number}", Group.model_fields) from error


def read_groups(path: str | Path) -> tuple[Group, ...]:
    """Your own list: one a line (.txt), a table (.csv), or a list (.yaml, .json). Raises BadInput, naming the place.

    A table has a column `group`, if wanted `phrase`, and columns such as `gender.man` for shares in the data.
    Lines of a text file that begin with # are left out.
    """
    path = Path(path).expanduser()
    if path.suffix == ".csv":
        return as_groups(_cells(row, path) for row in read_table(path, "group"))
    if path.suffix in (".yaml", ".yml", ".json"):
        data = read_data(path)
        if not isinstance(data, list):
            raise BadInput(f"{path} holds no list of groups; write one a line, such as `- doctor`")
        return as_groups(data)
    if path.suffix != ".txt":
        raise BadInput(f"{path} ends in {path.suffix or 'nothing'!r}; groups are read from .txt, .csv, .yaml or .json")
    lines = (line.strip() for line in read_text(path).splitlines())
    return as_groups(line for line in lines if line and not line.startswith("#"))


def read_table(path: Path, column: str) -> list[dict[str, Any]]:
    """The rows of a CSV file that has a column of this name. Raises BadInput, also for cells beyond the header."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path)), strict=True, restkey="(beyond the header)")
        rows = list(reader)
    except csv.Error as error:
        raise BadInput(f"{path} is not valid CSV ({error}); put cells that hold commas into quotes") from error
    if column not in (reader.fieldnames or ()):
        raise BadInput(
            f"{path} has the columns {list(reader.fieldnames or ())}; it needs one that is called {column!r}"
        )
    return rows


def _cells(row: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A row of a table as a group: `gender.man` is a share of the reference."""
    reference: dict[str, dict[str, Any]] = {}
    given: dict[str, Any] = {}
    for name, cell in row.items():
        attribute, dot, label = name.partition(".")
        if not dot and name not in ("group", "phrase"):
            raise BadInput(f"{path} has {cell!r} in {name!r}; take group, phrase, or ATTRIBUTE.LABEL for shares")
        if dot and cell:
            reference.setdefault(attribute, {})[label] = cell
        elif not dot:
            given[name] = cell or ""
    return {**given, "reference": reference}
