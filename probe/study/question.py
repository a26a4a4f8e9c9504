"""A study: a question as data. Prompts x seeds x models x interventions, explained and scored.

    study = probe.Study.read("study.yaml")     # or probe.Study(prompts=["a cat and a dog"], seeds="0-15", ...)
    study.run()                                # resumes where it was interrupted
    study.table().groupby("method").mean(numeric_only=True)

Importing this file needs no torch.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from probe.errors import BadInput
from probe.study.own import Own
from probe.study.prompts import GENERATORS, PromptRow, Prompts
from probe.study.reading import explain, read_data

if TYPE_CHECKING:
    import pandas as pd

    from probe.study.drive import Progress
    from probe.study.engine import Executor
    from probe.study.results import Status

PLAIN = "plain"  # the method that does nothing
RECORDED = "recorded"  # the setting of an intervention that names the folder of a trace
RESOLVED = "resolved.json"  # beside the results: the study with nothing left open
SEEDS = 1_000_000  # the most seeds of one study


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Part):
    """A pipeline: Menagerie, a folder, or a hub id with the commit of its weights. `digest` is found when it runs.

    `guidance` is the scale where the study names none; where that is left out too, Menagerie's own is found when it
    runs, and others take what their pipeline takes. Found then, too: `own`, what it takes of itself; `judge`, which
    weights of Menagerie score its pictures, where those are no part of its own.
    """

    source: str = "menagerie"
    revision: str | None = None
    label: str | None = None
    digest: str | None = None
    guidance: NonNegativeFloat | None = None
    own: Own = Own()
    judge: str | None = None

    @property
    def name(self) -> str:
        """What the table calls it: a folder by its own name, without the way there."""
        return self.label or (Path(self.source).name if Path(self.source).is_absolute() else self.source)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


class Method(BaseModel):
    """An intervention, explainer or scorer by name; all further fields are its settings.

    A setting "$subjects" stands for the prompt's own: $subjects, $attributes (of each subject that has one), $bindings
    (every subject with its attributes), $groups (each subject beside its attribute), or any column of the row.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str
    label: str | None = None

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.label or self.method

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as they were given."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value


def several(value: Any) -> Any:
    """One value is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def _seeds(value: Any) -> Any:
    """ "0-3, 8" and [0, "5-7"] as numbers, each once."""
    if isinstance(value, int):
        raise ValueError(f'{value} may mean one seed or that many seeds; write [{value}] or "0-{max(value - 1, 0)}"')
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(dict.fromkeys(seed for part in several(parts) for seed in _range(part)))


def _range(part: Any) -> Any:
    if isinstance(part, int) and not isinstance(part, bool) and part >= 0:
        return (part,)
    first, dash, last = str(part).strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
        raise ValueError(f'{part!r} is not a seed; give numbers from 0, or ranges such as "0-15"')
    if dash and int(last) - int(first) >= SEEDS:
        raise ValueError(f"{part!r} is more than {SEEDS:,} seeds; use fewer")
    return range(int(first), int(last or first) + 1)


def _size(value: Any) -> Any:
    """ "512x768" is width x height."""
    return [side.strip() for side in value.split("x")] if isinstance(value, str) else value


Seeds = Annotated[
    tuple[int, ...],
    Field(min_length=1),
    BeforeValidator(_seeds, json_schema_input_type=str | tuple[int | str, ...]),
]
Methods = Annotated[
    tuple[Method, ...],
    BeforeValidator(several, json_schema_input_type=str | Method | tuple[str | Method, ...]),
]
Models = Annotated[
    tuple[Model, ...],
    Field(min_length=1),
    BeforeValidator(several, json_schema_input_type=str | Model | tuple[str | Model, ...]),
]
Steps = Annotated[
    tuple[PositiveInt | None, ...],
    Field(min_length=1),
    BeforeValidator(several, json_schema_input_type=PositiveInt | tuple[PositiveInt, ...] | None),
]
Scales = Annotated[
    tuple[NonNegativeFloat | None, ...],
    Field(min_length=1),
    BeforeValidator(several, json_schema_input_type=NonNegativeFloat | tuple[NonNegativeFloat, ...] | None),
]
Size = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_size, json_schema_input_type=str | tuple[int, int])]


class Study(_Part):
    """A question as data. What is left out is the model's own. Raises BadInput for what cannot be used.

    Every combination of prompt, seed, model, intervention, steps and guidance is a job; each is explained and scored.
    `size` is width x height in pixels; `batch` pictures are made at once where the method allows it; `folder` (left
    out: out/NAME) is where the results go. `keep`: what is kept of each job beside its row. `order`: setting by
    setting, or every setting at a seed before the next seed, so that what was interrupted can be compared. `columns`:
    of the prompts' rows, those that scorers read; found when it runs.
    """

    name: str = Field("study", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    question: str = ""
    prompts: Prompts
    seeds: Seeds = (0,)
    models: Models = (Model(),)
    interventions: Annotated[Methods, Field(min_length=1)] = (Method(method=PLAIN),)
    explainers: Methods = ()
    scorers: Methods = ()
    columns: tuple[str, ...] = ()
    steps: Steps = (None,)
    guidance: Scales = (None,)
    size: Size | None = None
    negative: str | None = None
    scheduler: str | None = None
    batch: PositiveInt = 1
    order: Literal["settings", "seeds"] = "settings"
    keep: tuple[Literal["pictures", "traces"], ...] = ("pictures",)
    folder: str | None = None

    def __init__(self, **data: Any):
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, "the study", type(self).model_fields) from error

    @field_validator("models", "interventions", "explainers", "scorers")
    @classmethod
    def _check_names(cls, items: Any) -> Any:
        names = [item.name for item in items]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two are called {twice!r}; give each its own label: {{..., label: ...}}")
        return items

    @property
    def path(self) -> Path:
        """The folder of the results."""
        return (Path(self.folder) if self.folder else Path("out", self.name)).expanduser()

    @property
    def rows(self) -> tuple[PromptRow, ...]:
        """Every prompt; reads the file or runs the generator that was named."""
        return self.prompts if isinstance(self.prompts, tuple) else self.prompts.rows()

    @classmethod
    def read(cls, path: str | Path) -> "Study":
        """A study from a YAML or JSON file. Files and folders it names may be given relative to it. Raises BadInput.

        The results of a file called resolved.json lie beside it.
        """
        path = Path(path).expanduser()
        data = read_data(path)
        if not isinstance(data, Mapping):
            raise BadInput(f"{path} holds no study; expected fields such as `prompts:` and `seeds:`")
        try:
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-.") or "study"
            folder = {"folder": str(path.parent)} if path.name == RESOLVED else {}
            return cls(**_anchored({"name": name, **data, **folder}, path.parent))
        except TypeError as error:
            raise BadInput(f"{path} cannot be used ({error}); its fields are: {', '.join(cls.model_fields)}") from error

    @classmethod
    def open(cls, folder: str | Path) -> "Study":
        """The study whose results lie in a folder. Raises BadInput."""
        path = Path(folder).expanduser() / RESOLVED
        if not path.is_file():
            raise BadInput(f"{folder} holds no {RESOLVED}, so no study was run there; give the folder of a study")
        return cls.read(path)

    def run(
        self,
        *,
        device: str | None = None,
        executor: "Executor | None" = None,
        max_failures: int | None = None,
        retry: bool = False,
        on_job: "Callable[[Progress], None] | None" = None,
    ) -> "Status":
        """Do every job that is not done yet; see `probe.study.drive.drive`."""
        from probe.study.drive import Orders, drive

        return drive(self, executor, Orders(device=device, max_failures=max_failures, retry=retry, on_job=on_job))

    def status(self) -> "Status":
        """How many jobs are done, failed and left, by what lies in the folder. Raises BadInput before the first run."""
        from probe.study.results import status

        return status(Study.open(self.path))

    def table(self) -> "pd.DataFrame":
        """One row a finished job, in the order of the plan. Raises BadInput before the first run."""
        from probe.study.results import table

        return table(Study.open(self.path))

    def card(self) -> str:
        """What was asked, with what, and what came out, as Markdown; for readers who were not there."""
        from probe.study.card import card

        return card(Study.open(self.path))


def _anchored(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same data, with paths that exist beside the study's file."""
    found = dict(data)
    prompts = found.get("prompts")
    if isinstance(prompts, str) and prompts not in GENERATORS:
        prompts = {"file": prompts}
    if isinstance(prompts, Mapping) and isinstance(prompts.get("file"), str):
        found["prompts"] = {**prompts, "file": str(folder / prompts["file"])}
    if "models" in found:
        found["models"] = [_beside(model, folder, "source") for model in several(found["models"])]
    if "interventions" in found:
        asked = several(found["interventions"])
        found["interventions"] = [x if isinstance(x, str) else _beside(x, folder, RECORDED) for x in asked]
    return found


def _beside(value: Any, folder: Path, name: str) -> Any:
    """A folder's path from here, where there is one; of a mapping, that of one of its entries."""
    if isinstance(value, str):
        return str(folder / value) if (folder / value).is_dir() else value
    if isinstance(value, Mapping) and isinstance(value.get(name), str):
        return {**value, name: _beside(value[name], folder, name)}
    return value
