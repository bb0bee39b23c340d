"""YAML files that hold one pydantic model: reading with errors that name file, line and field, and writing."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stakesim.schema.errors import InputError
from stakesim.schema.validation import explain, format_path
from stakesim.schema.yaml_loader import line_in, line_of, parse

FileType = TypeVar("FileType", bound=BaseModel)

SCHEMA_COMMENT = "# yaml-language-server: $schema=schema.json\n"


def read(text: str, source: str, file_type: type[FileType]) -> FileType:
    """Reads a model from YAML.

    Args:
        text: The file's text.
        source: The file's name, for errors.
        file_type: The model.

    Raises:
        InputError: The text is not valid. Of several errors the first is reported, but an unknown field comes before
            a missing one, which is often the same field misspelt.
    """
    root, data = parse(text, source)
    if not isinstance(data, dict):
        raise InputError(f"{source}, line 1: is not a mapping of fields; begin with `name: ...`")
    try:
        return file_type.model_validate(data)
    except ValidationError as error:
        first = min(error.errors(), key=lambda details: details["type"] != "extra_forbidden")
        path, explanation = explain(first, data, file_type)
        raise InputError(f"{source}, line {line_in(root, path)}, {format_path(path)}: {explanation}") from None


def load(file: str | Path, file_type: type[FileType], kind: str) -> FileType:
    """Reads a model from a file.

    Args:
        file: The file.
        file_type: The model.
        kind: What the file is, for errors: "profile".

    Raises:
        InputError: The file can't be read, or is not valid.
    """
    file = Path(file)
    return read(_text_of(file, kind), str(file), file_type)


def _text_of(file: Path, kind: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: can't be read: {error.strerror}; give the path of a {kind}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{file}, line {line}: is not UTF-8; save it in that encoding") from None


def load_named(file: str | Path, file_type: type[FileType], kind: str) -> FileType:
    """Reads a model from a file whose name, without the suffix, is the model's field `name`.

    Args:
        file: The file.
        file_type: The model.
        kind: What the file is, for errors: "profile".

    Raises:
        InputError: The file can't be read, is not valid, or has another name.
    """
    file = Path(file)
    text = _text_of(file, kind)
    content = read(text, str(file), file_type)
    name = getattr(content, "name", None)
    if name != file.stem:
        line = line_of(text, ("name",))
        raise InputError(f"{file}, line {line}, name: {name!r} is not the file's name; write `name: {file.stem}`")
    return content


class _OneLine(dict[str, Any]):
    """A mapping that is written on one line: {at: 0, do: wait}."""


class _Dumper(yaml.SafeDumper):
    pass


def _represent_one_line(dumper: yaml.SafeDumper, data: _OneLine) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Writes Unicode's rarer line ends as escapes: PyYAML writes them as they are, and reads them as blanks."""
    has_rare_line_end = any(end in text for end in "\x85\u2028\u2029")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if has_rare_line_end else None)


_Dumper.add_representer(_OneLine, _represent_one_line)
_Dumper.add_representer(str, _represent_text)


def write(data: dict[str, Any], first_line: str = SCHEMA_COMMENT) -> str:
    """The fields as a YAML file.

    There is one line for each field, and one for each item of a list or mapping in it. An item with a list of mappings
    is written likewise.

    Args:
        data: The fields.
        first_line: A comment before them, with its line end.
    """
    body = {name: _one_line_each(value) for name, value in data.items()}
    return first_line + yaml.dump(
        body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000, default_flow_style=None
    )


def _one_line_each(value: Any) -> Any:
    if isinstance(value, list):
        return [_item(item) for item in value]
    if isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()):
        return {name: _OneLine(item) if isinstance(item, dict) else item for name, item in value.items()}
    return _OneLine(value) if isinstance(value, dict) else value


def _item(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if any(_is_list_of_mappings(field) for field in value.values()):
        return {name: _one_line_each(field) for name, field in value.items()}
    return _OneLine(value)


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
