"""The support table: the README says what was measured, and what was measured still holds."""

from pathlib import Path

import pytest

from experiments import support_table
from probe.attach.model.families import FAMILIES
from probe.checkup import support
from probe.checkup.support import Support
from probe.cli import main
from tests import pipelines
from tests.attach.model.test_families import SITES

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_the_table_that_was_measured():
    assert f"<!-- table -->\n{support.markdown()}\n<!-- /table -->" in README


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--families"]) == 0
    assert capsys.readouterr().out == support.markdown() + "\n"


def test_every_pipeline_of_the_tests_has_its_line_and_every_family_its_row():
    assert [line.name for line in support.shown()] == list(pipelines.FAMILIES)
    assert {row.family for row in support.families()} == {family.name for family in FAMILIES.values()}


def test_the_lines_say_what_the_tests_of_the_families_check():
    assert {line.name: line.sites for line in support.shown()} == SITES | {"kandinsky22": 0}
    assert all("image->text" in line.relations for line in support.shown() if line.sites)
    assert all("cond" in line.branches for line in support.shown())


SLOW = [pytest.param(f, marks=() if f in pipelines.CORE else pytest.mark.slow) for f in pipelines.FAMILIES]


@pytest.mark.parametrize("name", SLOW)
def test_what_was_measured_still_holds(name: str):
    line, problems = support_table.measured(name)
    assert problems == ()
    assert line == next(each for each in support.shown() if each.name == name)


LINES = (
    Support("one", "UNet", "OnePipeline", "", 7, 14, ("uncond", "cond"), ("image->text",)),
    Support("two", "UNet", "TwoPipeline", "LoRA", 7, 14, ("cond",), ("image->text", "image->image")),
    Support("none", "Blind", "BlindPipeline", "", 0, 4, ("cond",), ()),
)


def test_a_family_is_one_row_of_all_its_pipelines():
    rows = support.markdown(LINES).splitlines()[2:4]
    assert rows == [
        "| UNet | One, Two | LoRA | 7 / 14 | uncond, cond | image->text, image->image |",
        "| Blind | Blind | none | reads no text: 0 / 4 | cond | none |",
    ]
    assert "random weights of the real" in support.markdown(LINES)


def test_lines_come_back_as_they_were_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "support.json").write_text(support.dumped(LINES), encoding="utf-8")
    monkeypatch.setattr(support.resources, "files", lambda package: tmp_path)
    assert support.shown() == LINES


def test_nothing_is_written_where_something_does_not_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(support_table, "measured", lambda name: (LINES[0], ("recording changed the picture",)))
    monkeypatch.setattr(support_table, "DATA", tmp_path / "support.json")
    monkeypatch.setattr(support_table, "README", tmp_path / "README.md")
    assert not support_table.main(["--write"])
    assert list(tmp_path.iterdir()) == []
