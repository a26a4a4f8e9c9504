"""The house rules: who may import whom, what may not be written where, how fast it starts, what is public."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import probe

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "probe"
OURS = ("probe", "dashboards", "experiments")

# From the ground up: a room imports from lower floors only, never from its own floor or above.
FLOORS = (
    {"_version", "axes", "errors"},
    {"narrow", "site", "words"},
    {"noise", "subjects"},
    {"heatmap", "intervention", "trace"},
    {"comparison", "readings", "store"},
    {"attach", "explain", "show"},
    {"concepts", "generator", "nurse"},
    {"study"},
    {"bias", "checkup"},
    {"__init__"},
    {"cli"},
)
STAIRS = {("trace", "store")}  # Trace.save reaches up, when it is called
EXCEPTIONS: dict[str, str] = {}  # file: why it may be longer than its budget


def sources(*rooms: str) -> list[Path]:
    """The Python files of rooms, e.g. "probe/cli" or "dashboards"."""
    found = [
        path for room in rooms for path in ([ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py"))
    ]
    return sorted(path for path in found if path.is_file())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted names that a file imports, with the line; `from a import b` gives a.b."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where(path, node.lineno)}: write imports in full"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def room(dotted: str) -> str | None:
    """The room of `probe` that a dotted name belongs to; the package itself is `__init__`."""
    parts = dotted.split(".")
    if parts[0] != "probe":
        return None
    known = {name for floor in FLOORS for name in floor}
    return parts[1] if len(parts) > 1 and parts[1] in known else "__init__"


def home(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def fenced(modules: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    """Where one of the modules is imported outside the allowed places."""
    found = []
    for path in sources(*OURS):
        if not path.relative_to(ROOT).as_posix().startswith(allowed):
            found += [f"{where(path, n)} {name}" for name, n in imports(path) if name.split(".")[0] in modules]
    return found


def test_every_room_stands_on_a_floor():
    rooms = {home(path) for path in sources("probe")}
    assert rooms <= {name for names in FLOORS for name in names}


def test_rooms_import_from_lower_floors_only():
    wrong = []
    for path in sources("probe"):
        mine = home(path)
        for name, line in imports(path):
            other = room(name)
            if other is None or other == mine or mine == "__init__" or (mine, other) in STAIRS:
                continue
            if name.startswith("probe.__") or floor(other) >= floor(mine):
                wrong.append(f"{where(path, line)} imports {name}")
    assert wrong == []


def test_dashboards_and_experiments_keep_off_the_machinery():
    wrong = [f"{where(p, n)} {name}" for p in sources("dashboards") for name, n in imports(p) if room(name) == "attach"]
    assert wrong == []


def test_one_place_sees_attention():
    found = [p.relative_to(ROOT).as_posix() for p in sources(*OURS) if "scaled_dot_product_attention" in p.read_text()]
    assert found in ([], ["probe/attach/waist.py"])


FENCES = {
    "drawing": (("matplotlib", "altair", "plotly", "seaborn", "bokeh"), ("probe/show", "dashboards")),
    "streamlit": (("streamlit",), ("dashboards",)),
    "diffusers": (("diffusers",), ("probe/attach", "probe/generator", "experiments")),
    "engine": (("ray", "submitit"), ("probe/study/engine",)),
    "pickles": (("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"), ()),
}


@pytest.mark.parametrize("name", FENCES)
def test_fence(name: str):
    modules, allowed = FENCES[name]
    assert fenced(modules, allowed or ("nowhere",)) == []


def test_what_is_read_back_needs_no_torch():
    rooms = (
        "axes.py",
        "errors.py",
        "site.py",
        "narrow.py",
        "trace.py",
        "heatmap.py",
        "comparison.py",
        "readings.py",
        "words",
        "store",
        "explain",
        "show",
    )
    files = sources(*(f"probe/{room}" for room in rooms))
    heavy = ("torch", "transformers", "diffusers", "captum")
    assert [f"{where(p, n)} {name}" for p in files for name, n in imports(p) if name.split(".")[0] in heavy] == []


def dangers(path: Path) -> Iterator[str]:
    """Calls that run what a file says, or that unpickle."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        pickled = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
        trusting = any(k.arg in ("trust_remote_code", "custom_pipeline") for k in node.keywords)
        if called in ("eval", "exec", "torch.load", "compile", "os.system") or pickled or trusting:
            yield f"{where(path, node.lineno)} {called}"


def test_nothing_unpickles_or_runs_what_a_file_says():
    assert [danger for path in sources(*OURS) for danger in dangers(path)] == []


def test_no_broad_except():
    wrong = []
    for path in sources(*OURS):
        handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
        caught = [(h.lineno, "" if h.type is None else ast.unparse(h.type)) for h in handlers]
        wrong += [where(path, n) for n, what in caught if not what or re.search(r"\b(Base)?Exception\b", what)]
    assert wrong == []


def test_no_suppressions_and_nothing_left_to_do():
    pattern = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore|fmt:\s*off)([\s:\[]|$)|\b(TODO|FIXME|XXX)\b")
    files = [path for path in sources(*OURS, "tests") if path != Path(__file__)]
    lines = ((path, i, line) for path in files for i, line in enumerate(path.read_text().splitlines(), 1))
    assert [where(path, i) for path, i, line in lines if pattern.search(line)] == []


def test_files_and_functions_fit_in_a_head():
    wrong = []
    for path in sources(*OURS):
        name = path.relative_to(ROOT).as_posix()
        lines = len(path.read_text().splitlines())
        if lines > 300 and name not in EXCEPTIONS:
            wrong.append(f"{name}: {lines} lines")
        wrong += [f"{where(path, f.lineno)} {f.name}: {size(f)} lines" for f in functions(path) if size(f) > 40]
    assert wrong == []


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def size(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_the_public_list_is_complete():
    block = next(node for node in tree(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    typed = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed | {"ProbeError", "errors", "__version__"} == set(probe.__all__)
    assert list(probe.__all__) == sorted(probe.__all__)
    assert dir(probe) == list(probe.__all__)


@pytest.mark.parametrize("name", probe.__all__)
def test_every_public_name_is_there_and_explained(name: str):
    value = getattr(probe, name)
    assert name == "__version__" or value.__doc__


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'remember'; its public names are \w+, .*verify"):
        print(probe.remember)


def test_every_error_belongs_to_the_tree():
    errors = [value for value in vars(probe.errors).values() if isinstance(value, type)]
    assert all(issubclass(error, probe.ProbeError) for error in errors)
    drawn = re.findall(r"[├└]── (\w+)", probe.errors.__doc__ or "")
    assert sorted(drawn) == sorted(error.__name__ for error in errors if error is not probe.ProbeError)


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


HEAVY = ("torch", "diffusers", "transformers", "numpy", "xarray", "pydantic", "matplotlib", "PIL")


@pytest.mark.parametrize(
    "line", ["import probe", "import probe.cli", "from probe.cli.parser import build; build().format_help()"]
)
def test_importing_loads_nothing_heavy(line: str):
    loaded = python(f"import sys; {line}; print(*[m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == ""


def test_readers_work_without_torch():
    loaded = python(
        "import sys, probe; probe.Trace, probe.Heatmap, probe.open, probe.attention; print('torch' in sys.modules)"
    )
    assert loaded == "False"


def test_import_takes_less_than_a_tenth_of_a_second():
    code = "import time; t = time.process_time(); import probe; print(time.process_time() - t)"
    assert min(float(python(code)) for _ in range(5)) < 0.1


def test_help_takes_less_than_four_tenths_of_a_second():
    assert min(seconds(sys.executable, "-m", "probe.cli", "--help") for _ in range(5)) < 0.4


def seconds(*command: str) -> float:
    """Processor time of a command: what it takes where nothing else runs, however busy this machine is."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@cache
def tracked() -> tuple[Path, ...]:
    """The files under version control; those of the source tree where there is none."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return tuple(path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file())
    return tuple(path for folder in (*OURS, "tests", "docs") for path in (ROOT / folder).rglob("*") if path.is_file())


def test_no_machine_is_named_in_what_is_tracked():
    places = ("work/main", "work/shared", "tmp/dev", "root/", "opt/wheels", "opt/pypi", "home/")
    pattern = re.compile(rb"(?<![\w.])/(" + "|".join(places).encode() + rb")")
    texts = {path: path.read_bytes() for path in tracked() if path.suffix not in (".png", ".safetensors")}
    assert [str(path.relative_to(ROOT)) for path, data in texts.items() if pattern.search(data)] == []


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_files_whose_types_are_held_strictly_are_there():
    strict = settings()["tool"]["pyright"]["strict"]
    assert strict and [path for path in strict if not (ROOT / path).is_file()] == []


def test_the_exact_versions_meet_the_ranges():
    project = settings()["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    wanted = [Requirement(line) for line in lines]
    named = [(line, line.name.lower().replace("_", "-")) for line in wanted]
    assert [str(r) for r, name in named if name not in pins or not r.specifier.contains(pins[name])] == []
    assert pins["torch"] == "2.13.0"
