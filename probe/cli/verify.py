"""`probe verify`: does every file of a trace match its manifest?"""

from jsonargparse import Namespace

import probe
from probe.cli import say
from probe.cli.open import find


def run(options: Namespace) -> int:
    """0 if every file is as it was written, 1 if not."""
    report = probe.verify(find(options.trace))
    say.result(report)
    return 0 if report.ok else 1
