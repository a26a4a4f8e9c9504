"""A parser that says what was typed wrong in the words of who typed it, and what to type instead."""

import re
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

NUMBERS = {
    "PositiveInt": "a whole number from 1 on",
    "NonNegativeInt": "a whole number from 0 on",
    "NonNegativeFloat": "a number from 0 on",
}
SEEDS = 2**64  # of torch
WRONG = re.compile(r"Parser key \"(?P<key>[\w.]+)\":\s+Not of type (?P<kind>\w+): (?P<why>.*)", re.DOTALL)
GIVEN = re.compile(r"'(?P<quoted>.*)'$|^(?P<bare>\S+) does not conform", re.DOTALL)
MISSING = re.compile(r"the following arguments are required: (?P<names>.+)")
UNKNOWN = re.compile(r"unrecognized arguments: (?P<words>[^-].*)")


class Parser(ArgumentParser):
    """Leaves with exit code 2 where the words given cannot be read."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:
        """The options, with seeds that torch can take."""
        found = super().parse_args(*args, **kwargs)
        for name, value in found.items():
            if name.rpartition(".")[2] == "seed" and isinstance(value, int) and value >= SEEDS:
                self.error(f"--seed takes a whole number from 0 to {SEEDS - 1}, not {value}")
        return found

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
