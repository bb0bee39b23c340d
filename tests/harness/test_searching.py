"""The benchmarks read `stakesim fuzz --json` finding by finding, and end it when they have seen enough."""

import os
import sys
from contextlib import closing

import pytest

from benchmarks.searching import fuzz

pytestmark = pytest.mark.slow


def stand_in(folder, monkeypatch, script: str):
    """Puts a program beside Python's that is started as `stakesim`."""
    program = folder / "stakesim"
    program.write_text(f"#!/bin/sh\necho $$ > {folder}/pid\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def test_findings_come_as_they_are_printed_and_closing_ends_the_search(tmp_path, monkeypatch):
    line = '{"name": "overpayment is kept", "seconds": 0.5, "actions": 2}'
    stand_in(tmp_path, monkeypatch, f"echo 'searching'; echo '{{\"moves\": 7}}'; echo '{line}'; exec sleep 600")
    with closing(fuzz("Stake.sol", 0, 600)) as findings:
        assert next(findings) == {"name": "overpayment is kept", "seconds": 0.5, "actions": 2}
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_search_that_finds_nothing_is_no_trouble_and_one_that_can_not_be_made_is(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "exit 0")
    assert list(fuzz("Stake.sol", 0, 1)) == []
    stand_in(tmp_path, monkeypatch, "echo 'no such file' >&2; exit 2")
    with pytest.raises(SystemExit, match="no such file"):
        list(fuzz("Stake.sol", 0, 1))
