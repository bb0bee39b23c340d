"""The docs say what the code says."""

import re
import subprocess

from stakesim.paths import checkout
from stakesim.runner.invariants import INVARIANTS

ROOT = checkout()


def test_invariants_md_lists_the_invariants_of_the_code():
    rows = re.findall(r"^\| (INV-\d\d) ([^|]+?) \| (.+) \|$", (ROOT / "INVARIANTS.md").read_text(), re.MULTILINE)
    assert rows == [(i.id, i.title, i.statement) for i in INVARIANTS.values()]
    assert len(rows) == 20


def test_extras_are_installed_beside_the_editable_checkout_and_do_not_replace_it_by_a_copy():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    own = [ROOT / name for name in listed if name.endswith((".md", ".py", ".yml", ".toml", "Makefile"))]
    wrong = re.compile(r"pip install (?:-q )?['\"]?\.\[")
    assert [str(file) for file in own if wrong.search(file.read_text(encoding="utf-8"))] == []


def test_every_folder_that_architecture_md_names_is_there():
    named = re.findall(r"^\| `([^`]+)`", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
