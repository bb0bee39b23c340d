"""The documentation matches the code: invariants, folders, links, commands and their options."""

import re
import subprocess

import pytest
import typer
from stakesim.commands.cli import cli
from stakesim.paths import checkout
from stakesim.runner.invariants import INVARIANTS
from stakesim.runner.known_faults import BackendFault, ContractWeakness

ROOT = checkout()
TRACKED_FILES = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()
PAGES = [name for name in TRACKED_FILES if name.endswith(".md")]


def test_invariants_md_lists_the_invariants_of_the_code():
    rows = re.findall(r"^\| (INV-\d\d) ([^|]+?) \| (.+) \|$", (ROOT / "INVARIANTS.md").read_text(), re.MULTILINE)
    assert rows == [(invariant.id, invariant.title, invariant.statement) for invariant in INVARIANTS.values()]
    assert len(rows) == 22


def test_extras_are_installed_as_an_editable_checkout():
    """Without `-e`, pip would replace the editable checkout by a copy."""
    installs_a_copy = re.compile(r"pip install (?:-q )?['\"]?\.\[")
    names = [name for name in TRACKED_FILES if name.endswith((".md", ".py", ".yml", ".toml", "Makefile"))]
    assert [name for name in names if installs_a_copy.search((ROOT / name).read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("folder", ["harness/stakesim/", "backend/app/"])
def test_architecture_md_names_every_package(folder):
    """The table with the folder in its head lists what is in it, each name once."""
    paragraphs = (ROOT / "ARCHITECTURE.md").read_text().split("\n\n")
    [table] = [paragraph for paragraph in paragraphs if paragraph.startswith(f"| `{folder}`")]
    first_cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = [name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)]
    packages = [path.name for path in (ROOT / folder).iterdir() if list(path.glob("*.py"))]
    modules = [path.name for path in (ROOT / folder).glob("[!_]*.py")]
    assert sorted(named) == sorted([*(f"{name}/" for name in packages if name != "__pycache__"), *modules])


def test_adopt_md_explains_every_weakness_and_every_fault():
    names = set(re.findall(r"^\| (.+?) \|", (ROOT / "docs/ADOPT.md").read_text(), re.MULTILINE))
    assert {*ContractWeakness, *BackendFault} <= names


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    relative = [target.strip() for target in targets if "://" not in target]
    assert [target for target in relative if not (ROOT / page).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_exists(page):
    """Checks each line of a code block that starts with `stakesim`, also behind a prompt or the path of `.venv`."""
    group = typer.main.get_command(cli)
    for block in re.findall(r"```(?:bash|sh|console)?\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
        for line in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?stakesim ([^#|\n]*)", block, re.MULTILINE):
            name, *words = line.split()
            command = group.get_command(None, name)
            if hasattr(command, "commands") and not words[0].startswith("-"):  # a group such as `wallet`
                command = command.commands.get(words[0])
            assert command, line
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if re.match(r"--?[a-z]", word)} <= options, line
