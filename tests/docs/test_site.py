"""The documentation's site: it builds, all its links lead somewhere, and it needs nothing from the internet."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from stakesim.commands.cli import cli
from stakesim.paths import checkout
from stakesim.scenario.scenario import Scenario
from typer.main import get_command

ROOT = checkout()
SITE = ROOT / "docs" / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Building it checks each link."""
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("the site's builder is not installed: run `make setup-dev`, or `make docs`")
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run([sys.executable, SITE / "build_site.py", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SITE)
    import links

    return links


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SITE)
    import build_site

    return build_site


@pytest.mark.in_turn
@pytest.mark.slow
def test_the_site_has_what_the_code_knows(site: Path) -> None:
    commands = (site / "generated" / "COMMANDS.html").read_text()
    for name, command in get_command(cli).commands.items():
        assert f'id="stakesim-{name}"' in commands
        assert all(name in commands for part in command.params for name in part.opts if name.startswith("--"))
    fields = (site / "generated" / "SCENARIO_FIELDS.html").read_text()
    assert all(f"<code>{field}</code>" in fields for field in Scenario.model_fields)
    assert (
        "<code>BLOCKCHAIN_RPC_URL</code></td>\n<td>required</td>" in (site / "generated" / "SETTINGS.html").read_text()
    )
    assert 'id="stakesim.run"' in (site / "generated" / "PYTHON_API.html").read_text()
    assert "NotEnoughSeats" in (site / "generated" / "ERRORS.html").read_text()


@pytest.mark.slow
def test_the_search_needs_no_server(site: Path) -> None:
    """Opened files may not load data or start workers, so both are scripts of the site."""
    assert (site / "search.js").read_text().startswith("var __index = ")
    assert "iframe-worker.js" in (site / "index.html").read_text()
    assert (site / "iframe-worker.js").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('<a href="b.html#there">', None),
        ('<a href="https://example.org"><a href="mailto:a@example.org">', None),
        ('<a href="gone.html">', "a.html: gone.html leads to no file"),
        ('<a href="b.html#gone">', "a.html: b.html#gone leads to no heading"),
        ('<a href="#gone">', "a.html: #gone leads to no heading"),
        ('<a href=".">', "a.html: . leads to no file"),
        ('<img src="gone.png">', "a.html: gone.png leads to no file"),
        ('<script src="https://cdn.example/x.js">', "a.html: loads https://cdn.example/x.js from another server"),
        ('<link href="//cdn.example/x.css">', "a.html: loads //cdn.example/x.css from another server"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(
    tmp_path: Path, links: ModuleType, content: str, problem: str | None
) -> None:
    (tmp_path / "a.html").write_text(content)
    (tmp_path / "b.html").write_text('<h1 id="there">')
    assert links.problems(tmp_path) == ([problem] if problem else [])


def test_a_style_from_another_server_is_found(tmp_path: Path, links: ModuleType) -> None:
    (tmp_path / "a.css").write_text("@font-face {src: url('https://fonts.example/a.woff2')} b {background: url(b.png)}")
    assert links.problems(tmp_path) == ["a.css: loads https://fonts.example/a.woff2 from another server"]


def test_what_the_builder_warns_of_has_file_and_line(builder: ModuleType) -> None:
    said = "Build started\n\x1b[33mWarning:\x1b[0m page does not exist\n   ╭─[ docs/A.md:3:39 ]\n   │\n"
    assert builder._warnings(said) == ["docs/A.md:3:39: page does not exist"]
    assert builder._warnings("no room on the disk") == ["no room on the disk"]


def test_a_page_that_is_in_no_menu_is_added(builder: ModuleType) -> None:
    nav = [{"Home": "README.md"}, {"How to": [{"Deploy": "docs/DEPLOY.md"}]}]
    pages = builder._pages(nav)
    assert pages[:2] == ["README.md", "docs/DEPLOY.md"]
    [more] = nav[2].values()
    assert "docs/GLOSSARY.md" in more
    assert "docs/DEPLOY.md" not in more
    assert len(pages) == len(set(pages))


def test_links_to_files_lead_to_copies_that_browsers_show(builder: ModuleType, tmp_path: Path) -> None:
    builder._stage(["README.md", "docs/ADOPT.md", "docs/PYTHON.md"], tmp_path)
    assert "](contracts/IEventStake.sol.txt)" in (tmp_path / "README.md").read_text()
    assert "](docs/ADOPT.md)" in (tmp_path / "README.md").read_text()
    assert "](../notebooks/contents.txt)" in (tmp_path / "docs/PYTHON.md").read_text()
    assert "01_tour.ipynb" in (tmp_path / "notebooks/contents.txt").read_text()
    assert (tmp_path / "contracts/IEventStake.sol.txt").read_text().startswith("// SPDX")
    assert (tmp_path / "github/workflows/gate.yml").exists()


@pytest.mark.slow
def test_steps_with_commands_keep_their_numbers(site: Path) -> None:
    """A block between two steps of the runbook belongs to the first; a list that ended there would begin at 1 again."""
    page = (site / "backend" / "RUNBOOK.html").read_text()
    source = (ROOT / "backend" / "RUNBOOK.md").read_text()
    assert page.count("<ol>") == len(re.findall(r"^1\. ", source, re.MULTILINE))


def test_lists_are_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SITE)
    from commonmark import rewrite_lists

    page = """
Text:
- a
  goes on
- b
  1. c

     ```sh
     if x
       y

     - no item
     ```

     more
  2. d

No item - at all.
1. e

   text
2. f
"""
    assert (
        rewrite_lists(page)
        == """
Text:

- a
    goes on
- b
    1. c

        ```sh
        if x
          y

        - no item
        ```

        more

    2. d

No item - at all.

1. e

    text

2. f
"""
    )
    assert rewrite_lists("| a - b |\n| --- |\n\n    code\n") == "| a - b |\n| --- |\n\n    code\n"
