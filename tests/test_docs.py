"""The documents: every line of Python in them runs, on a tiny pipeline; links lead somewhere; tables are complete."""

import re
import runpy
from pathlib import Path

import pytest
from diffusers import StableDiffusionPipeline

import probe
from probe.attach.model.families import FAMILIES
from tests import pipelines

ROOT = Path(__file__).parent.parent
RAISED = re.compile(r"\b(?:raise|return) (\w+)\(")  # some are returned, to be raised by the caller


def code(page: str) -> str:
    """All Python of a page, in order."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.S | re.M))


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/how-to.md"])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    tiny = pipelines.load("sd1")
    tiny.set_progress_bar_config(disable=True)
    monkeypatch.setattr(probe, "load", lambda source=None: tiny)
    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", lambda name: tiny)
    script = tmp_path / "page.py"
    script.write_text(code(page), encoding="utf-8")
    runpy.run_path(str(script))
    assert page != "README.md" or {p.name for p in tmp_path.iterdir()} == {"page.py", "balloon.png", "balloon-trace"}


def test_the_readme_has_ten_lines_on_your_own_pipeline():
    lines = [line for line in code("README.md").splitlines() if line.strip()]
    assert len(lines) <= 10


def test_the_support_table_names_every_family():
    table = re.findall(r"^\| ([^|]+?) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert set(table) >= {family.name for family in FAMILIES.values()}


def test_links_lead_somewhere():
    broken = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link, anchor in re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)", page.read_text("utf-8")):
            target = page.parent / link if link else page
            if not target.exists() or (anchor and anchor[1:] not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}{anchor}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, no punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_error_page_has_every_error():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    errors = {name: value for name, value in vars(probe.errors).items() if isinstance(value, type)}
    leaves = [name for name, value in errors.items() if not value.__subclasses__()]
    raised = {name for path in (ROOT / "probe").rglob("*.py") for name in RAISED.findall(path.read_text("utf-8"))}
    headings = set(re.findall(r"^### (.+)$", page, re.M))
    assert (set(leaves) | raised & set(errors)) - headings == set()
