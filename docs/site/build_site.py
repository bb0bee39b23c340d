"""Builds the documentation's site from the Markdown files of the repository: `python docs/site/build_site.py [FOLDER]`.

The pages keep their places, so links between them are the same in the site and on a code host. Links to other files
lead to copies of them. Pages about what the code knows best are written by `reference.py`. The site needs no server and
nothing from the internet; `links.py` checks that, and each link.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import links
import reference
import yaml
from commonmark import rewrite_lists

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
_SHOWN = {".json", ".png", ".svg", ".txt", ".yaml", ".yml", ".toml"}
"""Endings of files that browsers show; others get `.txt`. Markdown would become a page."""


def build(out: Path) -> list[str]:
    """Builds the site into a folder, which is emptied before.

    Returns:
        What is wrong with its links, a sentence each.

    Raises:
        SystemExit: The builder found something wrong, which it has told.
    """
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        config = yaml.safe_load((HERE / "mkdocs.yml").read_text(encoding="utf-8"))
        reference.write(stage / "pages" / "generated")
        _stage(_pages(config["nav"]), stage / "pages")
        config["plugins"][2]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT / "harness")]
        (stage / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        zensical = Path(sysconfig.get_path("scripts")) / "zensical"
        done = subprocess.run([zensical, "build", "--strict"], cwd=stage, capture_output=True, text=True)
        if done.returncode:
            sys.exit("\n".join(_warnings(done.stdout + done.stderr)))
        for name in ("sitemap.xml", "sitemap.xml.gz", "objects.inv"):  # for servers, and other sites
            (stage / "site" / name).unlink(missing_ok=True)
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(stage / "site", out)
    return links.problems(out)


def _warnings(output: str) -> list[str]:
    """What the builder warns of, a line each as FILE:LINE:COLUMN; all that it says if it has another form."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    found = re.findall(r"^(?:Warning|Error): (.*)\n\W*\[ (\S+) \]", plain, re.MULTILINE)
    return [f"{place}: {what}" for what, place in found] or [plain]


def _pages(nav: list[dict[str, Any]]) -> list[str]:
    """Paths of all pages in the menu, and of those of docs/ in none of them, which are added to it."""
    listed = list(_leaves(nav))
    decisions = [str(file.relative_to(ROOT)) for file in sorted((ROOT / "docs/decisions").glob("0*.md"))]
    more = [str(file.relative_to(ROOT)) for file in sorted((ROOT / "docs").glob("*.md"))]
    if unlisted := [name for name in more if name not in listed]:
        nav.append({"More": unlisted})
    return [*listed, *unlisted, *decisions]


def _leaves(nav: Any) -> Iterator[str]:
    for entry in nav:
        [value] = entry.values()
        if isinstance(value, str):
            yield value
        else:
            yield from _leaves(value)


def _stage(pages: list[str], folder: Path) -> None:
    """Copies pages, and files that they link to."""
    copies: set[str] = set()

    def relink(page: str, match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(page), match[2]))
        if target in pages or (folder / target).exists() or not (ROOT / target).exists():
            return match[0]
        if (ROOT / target).is_dir():
            target = f"{target}/README.md" if (ROOT / target / "README.md").exists() else f"{target}/contents"
        if target in pages:
            return f"{match[1]}{match[2].rstrip('/')}/README.md{match[3] or ''}{match[4]}"
        copies.add(target)
        copy = _copy_of(target)
        return f"{match[1]}{os.path.relpath(copy, os.path.dirname(page) or '.')}{match[4]}"

    for page in pages:
        text = (folder / page if page.startswith("generated/") else ROOT / page).read_text(encoding="utf-8")
        _write(folder / page, _LINK.sub(functools.partial(relink, page), rewrite_lists(text)))
    for name in copies:
        if name.endswith("/contents"):
            _write(folder / _copy_of(name), _contents(ROOT / name.removesuffix("/contents")))
        else:
            (folder / _copy_of(name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / _copy_of(name))
    for name in ("iframe-worker.js", "site.css"):
        shutil.copyfile(HERE / name, folder / name)


def _copy_of(name: str) -> str:
    """Path of a file's copy in the site, which has no hidden files."""
    visible = re.sub(r"(^|/)\.", r"\1", name)
    return visible if Path(name).suffix in _SHOWN else f"{visible}.txt"


def _contents(folder: Path) -> str:
    """The names of the files in a folder, for links to folders."""
    tracked = subprocess.run(["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=True)
    return tracked.stdout


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site")
    if problems := build(target):
        sys.exit("\n".join(problems))
    print(f"open {target / 'index.html'}")  # noqa: T201 - this is a command
