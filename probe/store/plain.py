"""Plain values: what JSON can hold, with a spelling for the numbers it cannot."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from probe.errors import BadInput, DamagedFile

FLOAT = "$float"  # {"$float": "-inf"}: JSON has no word for infinity


def plain(value: Any, where: str = "value") -> Any:
    """A value as JSON holds it: tuples and arrays become lists, infinities are spelled out. Raises BadInput."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), where)
    if isinstance(value, Mapping):
        return {_key(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(
        f"{where} holds a {type(value).__name__}, which a file cannot hold: keep numbers, text, lists, dicts"
    )


def restore(value: Any) -> Any:
    """The inverse of `plain`, except that lists stay lists."""
    if isinstance(value, list):
        return [restore(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {FLOAT} and value[FLOAT] in ("inf", "-inf", "nan"):
        return float(value[FLOAT])
    return {key: restore(item) for key, item in value.items()}


def canonical(value: Any) -> bytes:
    """The one spelling of plain values as JSON, in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1, separators=(",", ": "))
    return text.encode("utf-8", "surrogatepass")


def parse(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object. Raises DamagedFile on anything else, on repeated keys and on NaN."""
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{name} is not readable JSON ({error}): the file is damaged, copy it again") from error
    if not isinstance(value, dict):
        raise DamagedFile(f"{name} holds a {type(value).__name__}, expected an object: the file is damaged or foreign")
    return value


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise BadInput(f"{where} has the key {key!r}, expected text: a file cannot hold other keys")
    return key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")
