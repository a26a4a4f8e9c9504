"""`python -m probe.cli`, for where the command is not on the path."""

import sys

from probe.cli import main

sys.exit(main())
