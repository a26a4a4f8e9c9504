"""`probe doctor`: what this installation can do."""

from jsonargparse import Namespace

import probe
from probe.cli import say


def run(options: Namespace) -> int:
    """Print the findings; 0 if nothing is wrong, 1 if something is."""
    checkup = probe.doctor(options.model)
    say.result(checkup)
    return 0 if checkup.ok else 1
