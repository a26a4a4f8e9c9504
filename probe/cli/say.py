"""What the command prints: results on standard output, everything else on standard error, nothing interpreted."""

import sys


def plain(text: object) -> str:
    """Text without control characters: a prompt in a foreign trace must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in str(text))


def result(text: object = "") -> None:
    """A line of the result."""
    print(plain(text), flush=True)


def aside(text: object) -> None:
    """A line that is no result."""
    print(plain(text), file=sys.stderr, flush=True)


def error(problem: BaseException) -> None:
    """What went wrong, and what to do; no traceback."""
    aside(f"error: {problem}")


def interrupted(folder: object) -> None:
    """What Ctrl-C leaves of a study."""
    aside(f"interrupted; what is finished stays in {folder}. Run the same command to resume")
