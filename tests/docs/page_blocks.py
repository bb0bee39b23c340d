"""The code blocks of the documentation, and what comments say about them; CONTRIBUTING.md explains these."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (file|edit|run by|not run): (.+?) -->\s*$")
_PAGE_MARK = re.compile(r"^<!-- blocks (run by|not run): (.+?) -->$", re.MULTILINE)
_SAVE_AS = re.compile(r"[Ss]ave (?:this|it) as\s+`([^`]+)`:\s*$")
_COMMAND = re.compile(r"^(?:\$ |(?:\.venv/bin/)?stakesim |make |git |pip |dask |uvicorn )", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        line: Line of its fence.
        language: As the fence says; `sh` if it says none and there are commands, `text` if there are none.
        text: Its lines, without the page's indentation.
        mark: What is special about it: `file`, `edit`, `run by`, `not run`, or nothing.
        about: The file, the test or the reason.
    """

    line: int
    language: str
    text: str
    mark: str = ""
    about: str = ""


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    whole_page = _PAGE_MARK.search(text)
    for fence in _FENCE.finditer(text):
        code = textwrap.dedent(fence[3])
        language = fence[2] or ("sh" if _COMMAND.search(code) else "text")
        before = text[: fence.start()].rstrip()
        mark, about = "", ""
        if found := _MARK.search(before):
            mark, about = found[1], found[2]
        elif whole_page:
            mark, about = whole_page[1], whole_page[2]
        elif found := _SAVE_AS.search(before):
            mark, about = "file", found[1]
        yield Block(text.count("\n", 0, fence.start()) + 1, language, code, mark, about)


def commands_of(block: Block) -> Iterator[tuple[str, str | None]]:
    """The commands of a block in `sh`, each with the output that is shown; None if the block has no prompts."""
    text = re.sub(r"\\\n\s*", "", block.text)
    if not re.search(r"^\$ ", text, re.MULTILINE):
        for line in text.splitlines():
            if command := re.sub(r"(^|\s{2,})#.*", "", line).strip():
                yield command, None
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def matches(shown: str, printed: str) -> bool:
    """Whether output is as shown: `...` on a line of its own or at an end of one is anything, and times may differ."""
    pattern = ""
    for line in _plain(shown).splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*?"
        elif line:
            pattern += re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
    return re.fullmatch(pattern + r"(?:.*\n)*?" * shown.rstrip().endswith("\n..."), _plain(printed)) is not None


def _plain(text: str) -> str:
    """The text without times, blanks at ends of lines, and empty lines."""
    text = re.sub(r"\b\d+\.\d+ s\b", "T s", text)
    return re.sub(r"\n+", "\n", re.sub(r" +$", "", text.strip("\n") + "\n", flags=re.MULTILINE))
