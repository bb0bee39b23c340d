"""YAML files checked by a pydantic type, with errors that name file, line and field and say what to do."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stakesim.errors import StakesimError

FieldPath: TypeAlias = tuple[str | int, ...]
"""The way to a field: ("actions", 3, "seats")."""

FileType = TypeVar("FileType", bound=BaseModel)

SCHEMA_COMMENT = "# yaml-language-server: $schema=schema.json\n"


class ScenarioError(StakesimError):
    """A file is not what it should be: one sentence with file, line, field, and what to do about it."""


class FieldError(ValueError):
    """A field contradicts another one. Raised inside validators, where pydantic does not know the field."""

    def __init__(self, at: FieldPath, message: str) -> None:
        super().__init__(message)
        self.at = at


_DEEPEST = 50
"""Lists and mappings inside each other: more than any file here needs, fewer than Python's stack has room for."""
_MOST_DIGITS = 100
_MOST_VALUES = 1_000_000
"""With every alias written out."""


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: `no` and `off` are words, `012` and `1:30` are not numbers, dates are text.

    Whatever PyYAML can't make a value of is a `yaml.MarkedYAMLError`, which knows the line.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth > _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"it is nested more than {_DEEPEST} deep", problem_mark=mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind, value = node.tag.rpartition(":")[2], str(node.value)
        try:
            if isinstance(node, yaml.ScalarNode) and kind == "int" and len(value) > _MOST_DIGITS:
                raise ValueError
            return super().construct_object(node, deep=deep)
        except yaml.YAMLError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # which of them is up to the tag
            shown = repr(value) if len(value) <= _MOST_DIGITS else f"a text of {len(value)} characters"
            raise yaml.MarkedYAMLError(
                problem=f"{shown} can't be read as {kind}", problem_mark=node.start_mark
            ) from None


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+\.\d*(?:[eE][-+]\d+)?$"), list("-+0123456789")
)


def nearest(name: str, names: Iterable[str]) -> str:
    """Advice for a name that is not known."""
    names = list(names)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none yet"


def read(text: str, source: str, file_type: type[FileType]) -> FileType:
    """The file's content, checked. source: the file's name, for errors.

    Raises ScenarioError for the first fault; a field that does not exist goes before one that is missing, since it is
    often the same one misspelt.
    """
    root, data = _parse(text, source)
    if not isinstance(data, dict):
        raise ScenarioError(f"{source}, line 1: is not a mapping of fields; begin with `name: ...`")
    try:
        return file_type.model_validate(data)
    except ValidationError as error:
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        at, message = _explain(faults[0], data, file_type)
        raise ScenarioError(f"{source}, line {_line(root, at)}, {_path(at)}: {message}") from None


def load_named(file: str | Path, file_type: type[FileType], what: str) -> FileType:
    """The content of a file that is called as its field `name` says. what: the file is, for errors. Raises
    ScenarioError."""
    file = Path(file)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{file}: can't be read: {error.strerror}; give the path of a {what}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ScenarioError(f"{file}, line {line}: is not UTF-8; save it in that encoding") from None
    content = read(text, str(file), file_type)
    name = getattr(content, "name", None)
    if name != file.stem:
        line = line_of(text, ("name",))
        raise ScenarioError(f"{file}, line {line}, name: {name!r} is not the file's name; write `name: {file.stem}`")
    return content


def line_of(text: str, at: FieldPath) -> int:
    return _line(yaml.compose(text, _Loader), at)


def _parse(text: str, source: str) -> tuple[yaml.Node | None, Any]:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        character = f"U+{ord(error.character):04X}" if isinstance(error.character, str) else f"U+{error.character:04X}"
        raise ScenarioError(f"{source}, line {line}: YAML has no character {character}; remove it") from None
    try:
        root = loader.get_single_node()
        if root is not None:
            _check_aliases(root, source)
        _check_keys(root, source, set())
        return root, None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark or yaml.Mark("", 0, 0, 0, None, 0)).line + 1
        raise ScenarioError(
            f"{source}, line {line}: is not YAML: {error.problem}; mend it there or just above"
        ) from None
    finally:
        loader.dispose()


def _check_aliases(root: yaml.Node, source: str) -> None:
    """No alias means what it is inside of, and all of them written out are not more than a computer can hold."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_:
            line = node.start_mark.line + 1
            raise ScenarioError(f"{source}, line {line}: an alias (*name) stands inside of what it means; write it out")
        if id(node) not in sizes:
            open_.add(id(node))
            sizes[id(node)] = 1 + sum(size(inner) for inner in _inside(node))
            open_.remove(id(node))
        return sizes[id(node)]

    if size(root) > max(_MOST_VALUES, len(sizes)):
        raise ScenarioError(f"{source}, line 1: its aliases (*name) stand for {size(root)} values; use fewer of them")


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [inner for pair in node.value for inner in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.Node | None, source: str, checked: set[int]) -> None:
    """Every field's name is text, and given once; YAML itself takes the last of two.

    checked: what need not be looked at again, as an alias means it.
    """
    if node is None or id(node) in checked:
        return
    checked.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in node.value:
            where = f"{source}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ScenarioError(f"{where}: the name of a field is a list or a mapping; write text")
            if key.tag != "tag:yaml.org,2002:str":
                raise ScenarioError(f"{where}, {key.value}: is not text in YAML; put it in quotes")
            if key.value in seen:
                raise ScenarioError(f"{where}, {key.value}: is given twice; keep one")
            seen.add(key.value)
    for inner in _inside(node):
        _check_keys(inner, source, checked)


def _line(node: yaml.Node | None, at: Sequence[str | int]) -> int:
    """Line of the field, or of the nearest thing around it that the file has."""
    line = 1 if node is None else node.start_mark.line + 1
    if not at:
        return line
    if isinstance(node, yaml.SequenceNode) and isinstance(at[0], int) and at[0] < len(node.value):
        return _line(node.value[at[0]], at[1:])
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(at[0]):
                return _line(value, at[1:]) if at[1:] else int(key.start_mark.line) + 1
    return line


def _path(at: FieldPath) -> str:
    """("actions", 3, "seats") -> actions[3].seats"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".") or "the file"


_ADVICE = {
    "int_type": "write a whole number without quotes",
    "int_parsing": "write a whole number without quotes",
    "int_from_float": "write a whole number without quotes",
    "float_parsing": "write a number",
    "bool_parsing": "write true or false",
    "string_type": "write text, in quotes where it could be read as something else",
    "tuple_type": "write a list",
    "too_short": "write at least one",
    "dict_type": "write fields: {{...}}",
    "model_type": "write fields: {{...}}",
    "model_attributes_type": "write fields: {{...}}",
    "greater_than": "write more than {gt}",
    "greater_than_equal": "write at least {ge}",
    "less_than": "write less than {lt}",
    "less_than_equal": "write at most {le}",
}


def _explain(error: Any, data: Any, file_type: type[BaseModel]) -> tuple[FieldPath, str]:
    """Where pydantic's error is in the file, and what to do about it."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    at = _in_file(error["loc"], data, missing=kind == "missing")
    cause = context.get("error")
    if isinstance(cause, FieldError):
        return at + cause.at, str(cause)
    if isinstance(cause, ValueError):
        return at, str(cause)
    match kind:
        case "missing":
            return at, f"is missing; add `{at[-1]}: ...`"
        case "extra_forbidden":
            return at, f"is no field here; {nearest(str(at[-1]), _fields_beside(error['loc'], file_type))}"
        case "union_tag_not_found":
            field = context["discriminator"].strip("'")
            return (*at, field), f"is missing; add `{field}: ...`"
        case "union_tag_invalid":
            field = context["discriminator"].strip("'")
            tags = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
            return (*at, field), f"there is no {context['tag']!r}; {nearest(context['tag'], tags)}"
        case "literal_error":
            choices = [c.strip("'") for c in context["expected"].replace(" or ", ", ").split(", ")]
            return at, f"can't be {given!r}; {nearest(str(given), choices)}"
        case _:
            shown = "empty" if given is None else repr(given)
            advice = _ADVICE[kind].format(**context) if kind in _ADVICE else error["msg"]
            return at, f"is {shown}; {advice}"


def _in_file(location: FieldPath, data: Any, missing: bool) -> FieldPath:
    """pydantic's location without what is not in the file, such as the names of union members; but with the last part
    where that is `missing`."""
    at: list[str | int] = []
    for part in location:
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if inside:
            at.append(part)
            data = data[part]
    return (*at, location[-1]) if missing else tuple(at)


def _fields_beside(location: FieldPath, file_type: type[BaseModel]) -> Iterable[str]:
    """Names of the fields that the model around `location` has, as the JSON schema knows it."""
    schema = file_type.model_json_schema()
    here: Any = schema
    for part in location[:-1]:
        here = _resolved(here, schema)
        if "discriminator" in here:
            here = {"$ref": here["discriminator"]["mapping"].get(part, "")}
        elif isinstance(part, int):
            here = here.get("items", {})
        else:
            here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
    found = _resolved(here, schema)
    return list(found.get("properties", {}))


def _resolved(here: Any, schema: Any) -> Any:
    while isinstance(here, dict) and "$ref" in here:
        here = schema.get("$defs", {}).get(here["$ref"].rsplit("/", 1)[-1], {})
    return here if isinstance(here, dict) else {}


class _OneLine(dict[str, Any]):
    """A mapping that is written on one line: {at: 0, do: wait}"""


class _Dumper(yaml.SafeDumper):
    pass


def _one_line(dumper: yaml.SafeDumper, data: _OneLine) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Unicode's rarer line ends are written as escapes; PyYAML writes them as they are, and reads them as blanks."""
    rare = any(end in text for end in "\x85\u2028\u2029")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if rare else None)


_Dumper.add_representer(_OneLine, _one_line)
_Dumper.add_representer(str, _text)


def write(data: dict[str, Any]) -> str:
    """The fields as YAML: a line for each, one for each actor and action."""

    def lines(value: Any) -> Any:
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            return {k: _OneLine(v) if isinstance(v, dict) else v for k, v in value.items()}
        if isinstance(value, dict):
            return _OneLine(value)
        return [_OneLine(item) for item in value] if isinstance(value, list) else value

    body = {name: lines(value) for name, value in data.items()}
    return SCHEMA_COMMENT + yaml.dump(
        body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000, default_flow_style=None
    )
