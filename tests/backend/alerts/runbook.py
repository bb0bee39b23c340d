"""Reads backend/RUNBOOK.md as its reader does: by section, the commands to check, and what to do, step by step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[3] / "backend" / "RUNBOOK.md"
PARTS = ("Means", "Still works", "Check", "Do", "Over", "Wake somebody")
"""What each section of an alert has, in this order."""
_BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A numbered step: its text, and the commands in it; without any, it is done by hand."""

    text: str
    commands: str | None

    @property
    def follows(self) -> str | None:
        """Heading of the section of this page that the step sends its reader to."""
        link = re.search(r"[Ff]ollow \[([^\]]+)\]\(#", self.text)
        return link[1] if link else None


@dataclass(frozen=True)
class Section:
    """A section: the text of each part, the commands of its check, and its steps."""

    name: str
    parts: dict[str, str]

    @property
    def blocks(self) -> list[str]:
        """Its commands that belong to no part."""
        return [_unindented(*block) for block in _BLOCK.findall(self.parts[""])]

    @property
    def check(self) -> list[str]:
        return [_unindented(*block) for block in _BLOCK.findall(self.parts.get("Check", ""))]

    @property
    def steps(self) -> list[Step]:
        texts = re.split(r"(?m)^\d+\. ", self.parts.get("Do", ""))[1:]
        return [_step(text) for text in texts]


def sections(page: Path = PAGE) -> dict[str, Section]:
    """Returns the sections of the page, of all levels, by heading."""
    headings = re.split(r"(?m)^#{2,3} (.+)$", _without_headings_in_blocks(page.read_text()))
    return {name: Section(name, _parts(text)) for name, text in zip(headings[1::2], headings[2::2], strict=True)}


def alerts(page: Path = PAGE) -> list[str]:
    """Returns the headings below `## Alerts`, in order."""
    text = _without_headings_in_blocks(page.read_text())
    below = re.search(r"(?ms)^## Alerts\n(.*?)(?=^## )", text)
    assert below
    return re.findall(r"(?m)^### (.+)$", below[1])


def _without_headings_in_blocks(text: str) -> str:
    """Comments in commands are no headings."""
    return re.sub(r"(?ms)^( *)```.*?^\1```", lambda block: re.sub(r"(?m)^#", " #", block[0]), text)


def _parts(text: str) -> dict[str, str]:
    pieces = re.split(rf"(?m)^\*\*({'|'.join(PARTS)})\.?\*\*", text)
    return {"": pieces[0], **dict(zip(pieces[1::2], pieces[2::2], strict=True))}


def _step(text: str) -> Step:
    blocks = [_unindented(*block) for block in _BLOCK.findall(text)]
    return Step(re.sub(r"\s+", " ", _BLOCK.sub("", text)).strip(), "\n".join(blocks) or None)


def _unindented(indent: str, commands: str) -> str:
    return re.sub(rf"(?m)^{indent}", "", commands)
