"""The package requires everything that it imports, and messages name extras that exist."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from stakesim import errors
from stakesim.errors import NotInstalled, require
from stakesim.paths import checkout

pytestmark = pytest.mark.slow

ROOT = checkout()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
OF_BACKEND = ("backend", "api")


def normal(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-").replace(".", "-")


def imported(folder) -> dict[str, str]:
    """Distributions that the folder's files import, each with one of the files."""
    files = {}
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            files |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    owners = packages_distributions()
    ours = {"stakesim", "app", "stakesim_adapter", "mutants"}
    ours |= {"pytest", "_pytest", "hypothesis"}  # only for `make mutants`, which installs what tests need
    outside = {name: file for name, file in files.items() if name not in sys.stdlib_module_names and name not in ours}
    return {normal(owners[name][0]): file for name, file in outside.items()}


@pytest.mark.parametrize(
    ("folder", "required"),
    [
        (
            "harness/stakesim",
            [
                *BASE,
                *(package for extra, packages in EXTRAS.items() if extra not in OF_BACKEND for package in packages),
            ],
        ),
        ("backend", [*BASE, *(package for extra in OF_BACKEND for package in EXTRAS[extra])]),
    ],
)
def test_all_that_is_imported_is_required(folder, required):
    required_names = {normal(requirement) for requirement in required}
    missing = {name: file for name, file in imported(ROOT / folder).items() if name not in required_names}
    assert missing == {}


def test_make_installs_what_the_package_requires():
    """requirements/run.in repeats the list for the lock file."""
    lines = (ROOT / "requirements" / "run.in").read_text().splitlines()
    listed = {line for line in lines if not line.startswith("#")} - {"hatchling"}
    assert listed == {*BASE, *EXTRAS["backend"]}


def extras_named(folder) -> set[str]:
    """Extras that messages in these files advise to install."""
    named = set()
    for file in folder.rglob("*.py"):
        named |= set(re.findall(r"\.?\[([a-z]+)\]'", file.read_text()))
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            place = {"NotInstalled": 2, "require": 1}.get(getattr(call.func, "id", ""))
            if place is not None and len(call.args) > place and isinstance(call.args[place], ast.Constant):
                named.add(call.args[place].value)
    return named


def test_every_extra_in_a_message_exists():
    named = extras_named(ROOT / "harness") | extras_named(ROOT / "backend")
    assert named >= {"revm", "dask", "economics", "gate", "api"}
    assert named <= EXTRAS.keys()


def test_a_message_names_the_extra_as_pip_takes_it(monkeypatch):
    assert str(NotInstalled("The gate", "jinja2", "gate")) == (
        "The gate needs jinja2, which is not installed: run `pip install -e '.[gate]'`."
    )
    monkeypatch.setattr(errors, "checkout", lambda: None)
    with pytest.raises(NotInstalled, match=r"run `pip install 'stakesim\[gate\]'`\.$"):
        require("The gate", "gate", "json", "not_there_at_all")
    require("The gate", "gate", "json")
