"""`probe open`: what a trace holds, and where its report is."""

import webbrowser
from pathlib import Path

from jsonargparse import Namespace

import probe
from probe.cli import say
from probe.errors import BadInput


def run(options: Namespace) -> int:
    """Print the summary and the report's path; with --browser, show the report."""
    folder = find(options.trace)
    say.result(probe.open(folder))
    report = folder.parent / "report.html"
    if not report.is_file():
        say.result("no report beside it; to write one: probe.show.report(probe.open(folder), 'report.html')")
        return 0
    say.result(f"report: {report}")
    if options.browser and not webbrowser.open(report.as_uri()):
        say.aside("no browser could be started here: open the report's path in one")
    return 0


def find(given: str) -> Path:
    """The trace in a folder that `probe trace` made, or the folder itself. Raises BadInput where there is nothing."""
    folder = Path(given).expanduser().absolute()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {what}; give the folder of a trace, or the folder that `probe trace` made")
    return folder / "trace" if (folder / "trace").is_dir() else folder
