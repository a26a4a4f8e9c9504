"""The `probe` command: a thin skin over the public verbs.

Exit codes: 0 done, 1 failed, 2 something given cannot be used, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from probe.cli import say
from probe.cli.parser import build
from probe.errors import BadInput, BadModel, ProbeError

# What the libraries below would print on their own account; whoever wants to see it sets the variable.
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `--help` and wrong usage raise SystemExit, as is usual."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = build(given).parse_args(given)
    chosen = options[options.command]
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        return import_module(f"probe.cli.{options.command}").run(chosen)
    except KeyboardInterrupt:
        kept = chosen.get("checkpoint")
        say.interrupted(kept) if kept else say.aside("interrupted; nothing was left behind")
        return INTERRUPTED
    except (BadInput, BadModel) as problem:
        say.error(problem)
        return UNUSABLE
    except (ProbeError, OSError) as problem:
        say.error(problem)
        return FAILED
