"""The contract: the tests of the families, against the oldest and the newest diffusers that pyproject allows.

Each version gets a fresh virtual environment of its own, in .venv/contract, with everything else as in constraints.txt;
one that is there already is used again. Where the oldest is the newest, it runs once and says so.

    make contract
    python -m tests.contract --only 0.42.0 --tests tests/test_pipelines.py
"""

import argparse
import re
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
ROOM = ROOT / ".venv" / "contract"
PACKAGE = "diffusers"
TESTS = ("tests/attach/model/test_families.py",)


@dataclass(frozen=True)
class Result:
    """What one version did."""

    version: Version
    passed: bool
    said: str  # pytest's last line
    seconds: float

    def __str__(self) -> str:
        return f"{PACKAGE} {self.version}: {'holds' if self.passed else 'BROKEN'} ({self.said}; {self.seconds:.0f} s)"


def allowed() -> Requirement:
    """What pyproject asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return next(r for r in map(Requirement, project["dependencies"]) if r.name == PACKAGE)


def available() -> list[Version]:
    """The released versions that pip can install here. Raises RuntimeError where it finds none."""
    command = [sys.executable, "-m", "pip", "index", "versions", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pip finds no versions of {PACKAGE}; is there a network? It said: {done.stderr.strip()}")
    return [Version(text) for text in found.group(1).split(", ")]


def ends(versions: Sequence[Version], wanted: Requirement) -> tuple[Version, ...]:
    """The oldest and the newest that are allowed; one, if they are the same. Raises RuntimeError if there is none."""
    fit = sorted(version for version in versions if wanted.specifier.contains(version, prereleases=False))
    if not fit:
        raise RuntimeError(f"pip can install none that meets {wanted}; the newest is {max(versions)}")
    return tuple(dict.fromkeys((fit[0], fit[-1])))


def environment(version: Version) -> Path:
    """The Python of a fresh environment with this version; made on the first call."""
    folder = ROOM / str(version)
    python = folder / "bin" / "python"
    stamp = folder / "ready"
    if not stamp.is_file():
        venv.create(folder, with_pip=True, clear=True)
        pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        own = folder / "constraints.txt"
        own.write_text("\n".join(pin for pin in pins if not pin.startswith(f"{PACKAGE}==")), encoding="utf-8")
        wanted = ["--editable", f"{ROOT}[dashboard,dev]", f"{PACKAGE}=={version}"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted, "--constraint", own], check=True)
        stamp.touch()
    return python


def holds(version: Version, tests: Sequence[str]) -> Result:
    """Run the tests with this version."""
    python = environment(version)
    told = [python, "-c", f"import {PACKAGE}; print({PACKAGE}.__version__)"]
    seen = subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()
    if Version(seen) != version:
        raise RuntimeError(f"the environment for {PACKAGE} {version} has {seen}; delete {ROOM / str(version)}")
    began = time.monotonic()
    command = [python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:], sep="\n", flush=True)
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1].strip("= ")
    return Result(version, done.returncode == 0, last, time.monotonic() - began)


def main(argv: Sequence[str] | None = None) -> bool:
    """Whether all hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", type=Version, metavar="VERSION", help="these instead of both ends")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), metavar="FILE", help="what to run")
    chosen = parser.parse_args(argv)
    wanted = allowed()
    versions = tuple(chosen.only) if chosen.only else ends(available(), wanted)
    if not chosen.only:
        print(f"{wanted} allows {' to '.join(map(str, versions))}{' only' if len(versions) == 1 else ''}", flush=True)
    results = []
    for version in versions:
        results.append(holds(version, chosen.tests))
        print(results[-1], flush=True)
    return all(result.passed for result in results)


if __name__ == "__main__":
    raise SystemExit(not main())
