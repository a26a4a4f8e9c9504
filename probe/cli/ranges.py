"""Seeds on the command line."""

from pydantic import TypeAdapter, ValidationError

from probe.study.question import Seeds
from probe.study.reading import explain


def seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """ "0-3,8" as numbers, each once. Raises BadInput, naming the option."""
    try:
        return TypeAdapter(Seeds).validate_python(text)
    except ValidationError as error:
        raise explain(error, option) from error
