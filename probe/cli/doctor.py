"""`probe doctor`: what this installation can do, and which models it was verified on."""

from jsonargparse import Namespace

import probe
from probe.cli import say


def run(options: Namespace) -> int:
    """Print the findings; 0 if nothing is wrong, 1 if something is."""
    if options.families:
        from probe.checkup import support

        say.result(support.markdown())
        return 0
    checkup = probe.doctor(options.model, device=options.device)
    say.result(checkup)
    return 0 if checkup.ok else 1
