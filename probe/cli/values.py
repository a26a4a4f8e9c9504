"""Values on the command line that are lists: words, numbers, ranges of seeds."""

from pydantic import TypeAdapter, ValidationError

from probe.errors import BadInput
from probe.study.question import Seeds
from probe.study.reading import explain


def split(text: str | None) -> list[str]:
    """The words of a list with commas; none where the option was left out."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def integers(text: str, option: str, wanted: str) -> list[int]:
    """ "0,10" as numbers. Raises BadInput, naming the option and what was `wanted`."""
    try:
        return [int(part) for part in split(text)]
    except ValueError as error:
        raise BadInput(f"{option} {text!r}: give {wanted}") from error


def seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """ "0-3,8" as numbers, each once. Raises BadInput, naming the option."""
    try:
        return TypeAdapter(Seeds).validate_python(text)
    except ValidationError as error:
        raise explain(error, option) from error
