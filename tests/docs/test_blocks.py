"""Every code block of the documentation runs, here or in the test that a comment beside it names."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from page_blocks import Block, blocks_of, commands_of, matches
from stakesim.campaign import failure_cache
from stakesim.paths import checkout

ROOT = checkout()
pytest_plugins = ["pytester"]
PAGES = [
    name
    for name in subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if (ROOT / name).is_file() and next(blocks_of(ROOT / name), None)
]
RUN_ELSEWHERE = {(page, block.about) for page in PAGES for block in blocks_of(ROOT / page) if block.mark == "run by"}
HERE = [page for page in PAGES if any(block.mark not in ("run by", "not run") for block in blocks_of(ROOT / page))]
CONFIGURATION: dict[str, Callable[[str], Any]] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
IN_FOLDER = ("backend", "contracts", "examples", "pyproject.toml")
"""What of the checkout is in the folder in which the blocks of a page run, beside a copy of its scenarios."""


class Reader:
    """Somebody who does what a page says, block by block, in a folder of their own."""

    def __init__(self, page: str, folder: Path, stakesim: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        self.page, self.folder, self.stakesim = page, folder, stakesim
        self.names: dict[str, Any] = {"__name__": "page"}

    def follow(self, block: Block) -> None:
        """Does what one block says."""
        place = f"{self.page}:{block.line}"
        if block.mark == "edit":
            self._edit(self.folder / block.about, block.text, place)
        elif block.mark == "file":
            (self.folder / block.about).write_text(block.text)
        elif block.language == "python":
            source = "\n" * block.line + block.text  # so that a traceback has the page's lines
            exec(compile(source, str(ROOT / self.page), "exec"), self.names)
        elif block.language in CONFIGURATION:
            CONFIGURATION[block.language](block.text)
        elif block.language == "sh":
            for command, shown in commands_of(block):
                self._run(command, shown, place)
        else:
            assert block.language == "text", f"{place}: nobody knows how to run {block.language!r}"

    def _edit(self, file: Path, diff: str, place: str) -> None:
        removed, added = (
            "".join(line[1:] + "\n" for line in diff.splitlines() if line[0] in (sign, " ")) for sign in "-+"
        )
        text = file.read_text()
        assert text.count(removed) == 1, f"{place}: what is to be changed is not in {file.name} once"
        file.write_text(text.replace(removed, added))

    def _run(self, command: str, shown: str | None, place: str) -> None:
        small = re.sub(r"--runs \d+", "--runs 2", re.sub(r"--for \w+", "--for 1s", command))
        name, *words = shlex.split(small)
        if name.removeprefix(".venv/bin/") == "stakesim" and "|" not in words:
            done = self.stakesim(*words, cwd=self.folder)
        else:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            environment = os.environ | {"PATH": path}
            done = subprocess.run(small, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True)
        said = f"{place}: {command}\n{done.stdout}{done.stderr}"
        if shown is None or not done.stdout:
            assert done.returncode == 0, said
        if shown:
            assert matches(shown, done.stdout), said


@pytest.mark.parametrize(("page", "tests"), sorted(RUN_ELSEWHERE))
def test_the_tests_that_pages_name_exist(page: str, tests: str) -> None:
    for test in tests.split(", "):
        file, _, name = test.partition("::")
        assert (ROOT / file).exists(), f"{page}: there is no {file}"
        if name:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.slow
@pytest.mark.parametrize("page", HERE)
def test_the_blocks_of_a_page_run(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_stakesim: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(failure_cache, "state_dir", lambda: tmp_path / "state")
    monkeypatch.setenv("COLUMNS", "250")
    if page == "docs/TUTORIAL.md":  # its reader has an empty folder, but for the contract that is copied
        shutil.copy(ROOT / "examples/first_version/Stake.sol", tmp_path)
    else:
        shutil.copytree(ROOT / "scenarios", tmp_path / "scenarios")
        for name in IN_FOLDER:
            (tmp_path / name).symlink_to(ROOT / name)
        if page == "docs/DECIDE.md":  # as it says
            shutil.copytree(ROOT / "examples/decide", tmp_path, dirs_exist_ok=True)
    reader = Reader(page, tmp_path, run_stakesim)
    for block in blocks_of(ROOT / page):
        if block.mark not in ("run by", "not run"):
            reader.follow(block)


@pytest.mark.slow
def test_the_test_on_the_page_about_pytest_passes(pytester: pytest.Pytester) -> None:
    blocks = blocks_of(ROOT / "docs/PYTHON.md")
    [test] = [block.text for block in blocks if block.mark == "run by"]
    pytester.makepyfile(test)
    pytester.mkdir("scenarios")
    shutil.copy(ROOT / "scenarios/no-show.yaml", pytester.path / "scenarios")
    pytester.runpytest_inprocess("-p", "no:schemathesis", "--stakesim-driver", "contract").assert_outcomes(passed=1)


def test_output_is_compared() -> None:
    shown = "scenario\n...\nPASS  1 scenarios in 0.1 s: ...\n"
    assert matches(shown, "scenario  \na\n\nb\nPASS  1 scenarios in 22.5 s: everything\n")
    assert not matches(shown, "scenario\nPASS  2 scenarios in 22.5 s: everything\n")
    assert not matches(shown, "scenario\nPASS  1 scenarios in 22.5 s: everything\nand more\n")
    assert matches(shown + "...\n", "scenario\nPASS  1 scenarios in 22.5 s: everything\nand more\n")


def test_a_block_that_is_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Save this as `a.py`:\n\n```python\n```\n\n```python\nfrom a import y\n```\n\n```rust\n```\n")
    [file, code, unknown] = blocks_of(page)
    assert (file.mark, file.about, code.line) == ("file", "a.py", 6)
    reader = Reader("page.md", tmp_path, lambda *words, cwd: subprocess.CompletedProcess(words, 1, "FINDINGS\n", ""))
    with pytest.raises(AssertionError, match=r"page.md:10: nobody knows"):
        reader.follow(unknown)
    with pytest.raises(AssertionError, match=r"page.md:1: stakesim run"):
        reader.follow(Block(1, "sh", "stakesim run\n"))
    with pytest.raises(AssertionError, match=r"page.md:1: stakesim run"):
        reader.follow(Block(1, "sh", "$ stakesim run\nPASS\n"))
    with pytest.raises(ModuleNotFoundError):
        reader.follow(code)
    with pytest.raises(AssertionError, match=r"not in page.md once"):
        reader.follow(Block(1, "diff", "-y = 2\n+y = 3\n", "edit", "page.md"))
