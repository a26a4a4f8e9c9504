"""Files that people write by hand, and what to tell them when one cannot be used."""

import json
from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from probe.errors import BadInput

LIMIT = 64 * 2**20  # bytes of a file of prompts or of a study
SHOWN = 12  # names listed in a message
KINDS = ("list", "file", "generator", "template")  # marks of pydantic, no places in what was given


def read_text(path: Path) -> str:
    """The text of a file. Raises BadInput when it is missing, too large or not UTF-8."""
    try:
        if path.stat().st_size > LIMIT:
            raise BadInput(f"{path} has {path.stat().st_size:,} bytes, at most {LIMIT:,} are read: split it")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from error
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"cannot read {str(path)!r} ({why}): check the path") from error


def read_data(path: Path) -> Any:
    """What a YAML or JSON file says; a JSON file is read as such, whatever its size. Raises BadInput."""
    text = read_text(path)
    try:
        return json.loads(text) if path.suffix == ".json" else _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise BadInput(f"{path} is not valid YAML at {where}: {error.problem}. Check indentation and quotes") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read ({error}): check it with a linter") from error


class _Loader(yaml.SafeLoader):
    """Plain data only, and no key twice: the second would silently replace the first."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = list[Any]()
        for place in (key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"):
            key = self.construct_object(place, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} occurs twice", place.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)


def explain(error: ValidationError, what: str, known: Iterable[str] = ()) -> BadInput:
    """The same as one error in plain words: where, what was found, what to do. `known` are the fields there are."""
    problems = [p for p in error.errors(include_url=False) if not (p["type"] == "too_short" and p["input"])]
    lines = [_line(problem, list(known)) for problem in problems]
    return BadInput("\n  ".join([f"{what} cannot be used:", *lines]))


def _line(problem: Any, known: list[str]) -> str:
    place = [part for part in problem["loc"] if part not in KINDS]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    found = f" (found {_short(problem['input'])})" if problem["type"] != "missing" else ""
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: there is no such field{nearest(str(place[-1]), known)}"
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        said = "this is needed"
    if problem["type"] == "string_type":
        said = 'this is not text: put it in quotes, such as "yes" or "7"'
    return f"{where or 'it'}: {said}{found}"


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean X?", or else "; there are: ...": the end of a message about an unknown name."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = ", ..." if len(names) > SHOWN else ""
    return f"; there are: {', '.join(names[:SHOWN])}{more}" if names else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
