"""Parsing of YAML into plain data, without YAML's surprises, and the lines that its fields are on.

`no` and `off` are words; `012`, `1:30` and dates are text. A field may not be given twice. Aliases may neither contain
themselves nor expand to more values than memory holds. Every error is a `FileError` with the line.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from stakesim.schema.errors import FieldPath, FileError, place

_MAX_DEPTH = 50
"""Lists and mappings inside each other: more than any file needs, and within Python's recursion limit."""
_MAX_DIGITS = 100
"""Digits of an integer."""
_MAX_VALUES = 1_000_000
"""Values in a file after all aliases are expanded; more than a file without any can have."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with fewer implicit types; every failure is a `yaml.MarkedYAMLError`, which has the line."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth > _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"it is nested more than {_MAX_DEPTH} deep", problem_mark=mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind, value = node.tag.rpartition(":")[2], str(node.value)
        try:
            if isinstance(node, yaml.ScalarNode) and kind == "int" and len(value) > _MAX_DIGITS:
                raise ValueError
            return super().construct_object(node, deep=deep)
        except yaml.YAMLError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # PyYAML's, depending on the tag
            shown = repr(value) if len(value) <= _MAX_DIGITS else f"a text of {len(value)} characters"
            raise yaml.MarkedYAMLError(
                problem=f"{shown} can't be read as {kind}", problem_mark=node.start_mark
            ) from None


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)\Z"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)\Z"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?\Z"), list("-+0123456789")
)


def parse(text: str, source: str) -> tuple[yaml.Node | None, Any]:
    """Parses a YAML document.

    Args:
        text: The document.
        source: Name of the file, for errors.

    Returns:
        The document's root node, which `line_in` takes, and its data; both None for an empty document.

    Raises:
        FileError: The text is no YAML document, or one that this module forbids.
    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        character = f"U+{ord(error.character):04X}" if isinstance(error.character, str) else f"U+{error.character:04X}"
        raise FileError(f"{place(source, line)}: YAML has no character {character}; remove it") from None
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        _check_aliases(root, source)
        if problems := list(_wrong_keys(root, source, checked=set())):
            raise FileError(*problems)
        return root, loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark or yaml.Mark("", 0, 0, 0, None, 0)).line + 1
        raise FileError(
            f"{place(source, line)}: is not YAML: {error.problem}; correct it there or just above"
        ) from None
    finally:
        loader.dispose()


def line_in(node: yaml.Node | None, path: Sequence[str | int]) -> int:
    """The line of a field, counted from 1; if the file does not have the field, the line of what should contain it."""
    line = 1 if node is None else node.start_mark.line + 1
    if not path:
        return line
    if isinstance(node, yaml.SequenceNode) and isinstance(path[0], int) and path[0] < len(node.value):
        return line_in(node.value[path[0]], path[1:])
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(path[0]):
                return line_in(value, path[1:]) if path[1:] else int(key.start_mark.line) + 1
    return line


def line_of(text: str, path: FieldPath) -> int:
    """The line of a field in a YAML document, counted from 1."""
    return line_in(yaml.compose(text, _Loader), path)


def _check_aliases(root: yaml.Node, source: str) -> None:
    """Refuses an alias inside the value that it stands for, and aliases that expand to too many values."""
    sizes: dict[int, int] = {}
    ancestors: set[int] = set()

    def expanded_size(node: yaml.Node) -> int:
        where = place(source, node.start_mark.line + 1)
        if id(node) in ancestors:
            raise FileError(f"{where}: an alias (*name) is inside the value it stands for; write it out")
        if id(node) not in sizes:
            ancestors.add(id(node))
            sizes[id(node)] = size = 1 + sum(expanded_size(child) for child in _children(node))
            ancestors.remove(id(node))
            if size > _MAX_VALUES:
                raise FileError(f"{where}: its aliases (*name) stand for {size:,} values; use fewer of them")
        return sizes[id(node)]

    expanded_size(root)


def _wrong_keys(node: yaml.Node, source: str, checked: set[int]) -> Iterator[str]:
    """A problem for each field whose name is no text, or that is given twice, of which YAML would take the last.

    `checked` has the ids of nodes that need no second look, as an alias stands for them.
    """
    if id(node) in checked:
        return
    checked.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                yield f"{place(source, line)}: the name of a field is a list or a mapping; write text"
            elif key.tag != "tag:yaml.org,2002:str":
                yield f"{place(source, line, key.value)}: is not text in YAML; put it in quotes"
            elif key.value in names:
                yield f"{place(source, line, key.value)}: is given twice; keep one"
            else:
                names.add(key.value)
    for child in _children(node):
        yield from _wrong_keys(child, source, checked)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
