"""A parser that says what was typed wrong in the words of who typed it, and what to type instead."""

import re
from typing import NoReturn

from jsonargparse import ArgumentParser

NUMBERS = {
    "PositiveInt": "a whole number from 1 on",
    "NonNegativeInt": "a whole number from 0 on",
    "NonNegativeFloat": "a number from 0 on",
}
WRONG = re.compile(r"Parser key \"(?P<key>[\w.]+)\":\s+Not of type (?P<kind>\w+): (?P<why>.*)", re.DOTALL)
GIVEN = re.compile(r"'(?P<quoted>.*)'$|^(?P<bare>\S+) does not conform", re.DOTALL)
MISSING = re.compile(r"the following arguments are required: (?P<names>.+)")
UNKNOWN = re.compile(r"unrecognized arguments: (?P<words>[^-].*)")


class Parser(ArgumentParser):
    """Leaves with exit code 2 where the words given cannot be read."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(plainly(message), ex)


def plainly(message: str) -> str:
    """What the parser's own message says, without its terms; one that has none is given back as it is."""
    wrong, missing, unknown = WRONG.match(message), MISSING.match(message), UNKNOWN.match(message)
    if wrong and wrong["kind"] in NUMBERS:
        given = GIVEN.search(wrong["why"])
        found = f", not {given['quoted'] or given['bare']}" if given else ""
        return f"--{wrong['key'].rpartition('.')[2].replace('_', '-')} takes {NUMBERS[wrong['kind']]}{found}"
    if missing:
        names = [name.rpartition(".")[2].upper() for name in missing["names"].split(", ")]
        return f"{', '.join(names)} is missing; it stands behind the command, in quotes if it has several words"
    if unknown:
        return f"{unknown['words']!r} is one word too many; put what has several words in quotes"
    return message
