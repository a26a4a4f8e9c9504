"""The prompts of a study: a list, a file, a generator by name, or a template with slots."""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from probe.errors import BadInput
from probe.study.reading import explain, read_data, read_text

SEPARATOR = ";"  # between the subjects in one cell of a CSV file
SLOT = re.compile(r"\{(\w+)\}")
GENERATORS = {"attend-and-excite": "probe.study.benchmark:attend_and_excite"}
Subset = Literal["animal-animal", "animal-object", "object-object"]


class PromptRow(BaseModel):
    """One prompt, the subjects that its picture should show, and for each what describes it (or None).

    Left out, the subjects are found by their phrases. Whatever else stands in the row becomes a column of the table.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    prompt: str
    subjects: tuple[str, ...] | None = None
    attributes: tuple[str | None, ...] | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """What else stands in the row."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, bool | int | float):
            raise ValueError('this is not text: put it in quotes, such as "yes" or "7"')
        return {"prompt": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.prompt.strip():
            raise ValueError("the prompt is empty; say what to draw")
        json.dumps(self.model_dump(), ensure_ascii=False, default=str).encode()  # lone surrogates fit into no file
        count = len(self.subjects or ())
        if self.attributes is not None and len(self.attributes) != count:
            raise ValueError(f"{count} subjects and {len(self.attributes)} attributes; give one each, null for none")
        return self


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FromFile(_Source):
    """One prompt a line (.txt), a table with a column `prompt` (.csv), or a list (.json, .jsonl, .yaml)."""

    file: str
    first: Annotated[int, Field(gt=0)] | None = None

    def rows(self) -> tuple[PromptRow, ...]:
        """The file's rows. Raises BadInput, naming the row."""
        return tuple(itertools.islice(_checked(_read(Path(self.file)), self.file), self.first))


class Generated(_Source):
    """A benchmark that is made by rule."""

    generate: Literal["attend-and-excite"]
    subsets: tuple[Subset, ...] = ("animal-animal", "animal-object", "object-object")

    def rows(self) -> tuple[PromptRow, ...]:
        """The benchmark's rows."""
        module, _, function = GENERATORS[self.generate].partition(":")
        return tuple(_checked(getattr(import_module(module), function)(self.subsets), self.generate))


class Template(_Source):
    """Every combination of the slots' values: "a photo of a {mood} {who}" with values for mood and who.

    The values become columns of the table. Slots may also stand in `subjects` and `attributes`.
    """

    template: str
    values: Mapping[str, tuple[str, ...]]
    subjects: tuple[str, ...] | None = None
    attributes: tuple[str | None, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        asked, given = set(SLOT.findall(self.template)), set(self.values)
        if asked != given:
            raise ValueError(f"the template has the slots {sorted(asked)}, values are given for {sorted(given)}")
        taken = sorted(asked & set(PromptRow.model_fields))
        if taken:
            raise ValueError(f"the slot {{{taken[0]}}} has the name of what each row holds itself; call it otherwise")
        return self

    def rows(self) -> tuple[PromptRow, ...]:
        """One row a combination, the last slot changing first."""
        filled = [dict(zip(self.values, row, strict=True)) for row in itertools.product(*self.values.values())]
        return tuple(_checked(map(self._row, filled), self.template))

    def _row(self, values: dict[str, str]) -> dict[str, Any]:
        def fill(text: str | None) -> str | None:
            return text and SLOT.sub(lambda slot: values.get(slot[1], slot[0]), text)

        lists = {"subjects": self.subjects, "attributes": self.attributes}
        given = {name: [fill(text) for text in texts] for name, texts in lists.items() if texts is not None}
        return {"prompt": fill(self.template), **given, **values}


Source = FromFile | Generated | Template
KINDS = {"file": "file", "generate": "generator", "template": "template"}


def _shortcut(value: Any) -> Any:
    """A bare text is the name of a generator, or of a file."""
    if isinstance(value, str):
        return {"generate": value} if value in GENERATORS else {"file": value}
    return value


def _kind(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "list"
    named = value if isinstance(value, Mapping) else type(value).model_fields if isinstance(value, _Source) else {}
    return next((kind for key, kind in KINDS.items() if key in named), None)


Prompts = Annotated[
    Annotated[Annotated[tuple[PromptRow, ...], Field(min_length=1)], Tag("list")]
    | Annotated[FromFile, Tag("file")]
    | Annotated[Generated, Tag("generator")]
    | Annotated[Template, Tag("template")],
    Discriminator(
        _kind,
        custom_error_type="prompts",
        custom_error_message="give a list of prompts, {file: prompts.csv}, {generate: attend-and-excite}, "
        "or {template: 'a {thing}', values: {thing: [cat, dog]}}",
    ),
    BeforeValidator(_shortcut, json_schema_input_type=str | tuple[PromptRow, ...] | FromFile | Generated | Template),
]


def _checked(rows: Iterable[Any], name: str) -> Iterable[PromptRow]:
    for number, row in enumerate(rows, start=1):
        try:
            yield PromptRow.model_validate(row)
        except ValidationError as error:
            raise explain(error, f"prompt {number} of {name}") from error


def _read(path: Path) -> list[Any]:
    """The rows of a file, as it has them. Raises BadInput."""
    if path.suffix == ".csv":
        found: Any = [_cells(row, number, path) for number, row in enumerate(_table(path), start=2)]
    elif path.suffix in (".json", ".yaml", ".yml"):
        found = read_data(path)
    elif path.suffix == ".jsonl":
        found = [_line(line, number, path) for number, line in enumerate(_lines(path), start=1)]
    else:
        found = _lines(path)
    if not isinstance(found, list) or not found:
        raise BadInput(f"{path} holds no list of prompts; expected .txt, .csv, .json, .jsonl or .yaml with one a row")
    return found


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _line(line: str, number: int, path: Path) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise BadInput(f"{path}, line {number} is not valid JSON ({error}); expected one object a line") from error


def _table(path: Path) -> list[dict[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(read_text(path)), strict=True, restkey="surplus"))
    except csv.Error as error:
        raise BadInput(f"{path} is not valid CSV ({error}); quote cells that hold commas or quotes") from error


def _cells(row: dict[str, Any], number: int, path: Path) -> dict[str, Any]:
    if row.get("prompt") is None or "surplus" in row:
        raise BadInput(
            f"{path}, line {number} does not fit the header {list(row)}; it needs a column `prompt`, "
            "and quotes around cells that hold commas"
        )
    lists = {name: cell.split(SEPARATOR) for name in ("subjects", "attributes") if (cell := row.pop(name, None))}
    return row | {name: [text.strip() or None for text in texts] for name, texts in lists.items()}
