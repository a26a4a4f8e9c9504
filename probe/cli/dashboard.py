"""`probe dashboard`: Streamlit on the dashboard's pages, for this machine only."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from jsonargparse import Namespace

from probe.cli import say
from probe.errors import ProbeError

LOOPBACK = "127.0.0.1"
FOLDER = "PROBE_TRACES"  # tells the pages where the traces are


def run(options: Namespace) -> int:
    """Serve until Ctrl-C."""
    command = [sys.executable, "-m", "streamlit", "run", str(app()), *flags(options.port, options.browser)]
    folder = Path(options.folder).expanduser().absolute()
    say.aside(f"the dashboard of {folder} is at http://{LOOPBACK}:{options.port} (Ctrl-C stops it)")
    try:
        return subprocess.run(command, check=False, env=os.environ | {FOLDER: str(folder)}).returncode
    except KeyboardInterrupt:
        return 0  # how a server is stopped


def app() -> Path:
    """The dashboard's entry page. Raises ProbeError, with the remedy, if a part is missing."""
    if find_spec("streamlit") is None:
        raise ProbeError("the dashboard needs Streamlit. Install it: pip install 'diffusion-probe[dashboard]'")
    spec = find_spec("dashboards")
    pages = [Path(place, "app.py") for place in (spec.submodule_search_locations or [])] if spec else []
    for page in pages:
        if page.is_file():
            return page
    raise ProbeError(
        "the dashboard's pages are not installed: pip install --force-reinstall 'diffusion-probe[dashboard]'"
    )


def flags(port: int, browser: bool) -> list[str]:
    """Streamlit's options: loopback only, no statistics sent, nothing watched."""
    chosen = {
        "server.address": LOOPBACK,
        "server.port": port,
        "server.headless": not browser,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
    }
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in chosen.items()]
