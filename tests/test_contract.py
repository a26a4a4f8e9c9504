"""The contract's own parts: which versions it takes, and that it says what broke."""

import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests import contract

WANTED = Requirement("diffusers>=0.42")


def versions(*texts: str) -> list[Version]:
    return [Version(text) for text in texts]


def test_both_ends_are_taken_whatever_the_order():
    found = versions("0.42.1", "0.43.0", "0.41.0", "0.42.0")
    assert contract.ends(found, WANTED) == (Version("0.42.0"), Version("0.43.0"))


def test_one_that_is_both_is_taken_once():
    assert contract.ends(versions("0.41.0", "0.42.0", "0.43.0.dev1"), WANTED) == (Version("0.42.0"),)


def test_none_that_is_allowed_is_said():
    with pytest.raises(RuntimeError, match=r"none that meets diffusers>=0\.42; the newest is 0\.41\.0"):
        contract.ends(versions("0.40.0", "0.41.0"), WANTED)


def test_what_is_allowed_is_what_the_project_asks_for():
    assert contract.allowed() == WANTED


def test_versions_come_from_pip(monkeypatch: pytest.MonkeyPatch):
    said = "diffusers (0.42.1)\nAvailable versions: 0.42.1, 0.42.0, 0.9.0\n  INSTALLED: 0.42.1\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 0, said, ""))
    assert contract.available() == versions("0.42.1", "0.42.0", "0.9.0")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 1, "", "no route"))
    with pytest.raises(RuntimeError, match="is there a network.* no route"):
        contract.available()


def test_it_says_what_broke(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$1" in -c) echo 0.42.0;; *) echo "1 failed, 2 passed in 3s"; exit 1;; esac\n')
    python.chmod(0o755)
    monkeypatch.setattr(contract, "environment", lambda version: python)
    assert not contract.main(["--only", "0.42.0"])
    assert "diffusers 0.42.0: BROKEN (1 failed, 2 passed in 3s; " in capsys.readouterr().out
    with pytest.raises(RuntimeError, match=r"for diffusers 0\.43\.0 has 0\.42\.0; delete"):
        contract.main(["--only", "0.43.0"])
