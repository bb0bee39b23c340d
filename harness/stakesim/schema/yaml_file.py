"""YAML files that hold one pydantic model: reading with errors that name file, line and field, and writing."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stakesim.schema.errors import FieldPath, FileError, place
from stakesim.schema.text_file import read_text
from stakesim.schema.validation import explain, format_path
from stakesim.schema.yaml_loader import line_in, line_of, parse

FileType = TypeVar("FileType", bound=BaseModel)

SCHEMA_COMMENT = "# yaml-language-server: $schema=schema.json\n"


FOLDER = "folder"
"""Key of the file's folder in the context of pydantic's validators: what a file names counts from there."""
MAX_PROBLEMS = 20
"""Problems of one file that are told."""


def read(text: str, source: str, file_type: type[FileType]) -> FileType:
    """Reads a model from YAML.

    Args:
        text: The file's text.
        source: The file's name, for errors.
        file_type: The model.

    Raises:
        FileError: The text is not valid. It has every invalid field; how fields contradict each other is checked once
            each of them is valid.
    """
    root, data = parse(text, source)
    if not isinstance(data, dict):
        raise FileError(f"{place(source, 1)}: is not a mapping of fields; begin with `name: ...`")
    try:
        return file_type.model_validate(data, context={FOLDER: Path(source).parent})
    except ValidationError as error:
        explained = [each for details in error.errors() for each in explain(details, data, file_type)]
    first: dict[FieldPath, str] = {}
    for path, explanation in explained:  # a field that may be of several types has an error for each
        first.setdefault(path, explanation)
    meant = {(*path[:-1], text.rpartition("did you mean ")[2].strip("'?")) for path, text in first.items()}
    for path in meant & first.keys():
        if first[path].startswith("is missing"):  # as its name is misspelt
            del first[path]
    told = sorted((line_in(root, path), format_path(path), explanation) for path, explanation in first.items())
    problems = [f"{place(source, line, field)}: {explanation}" for line, field, explanation in told[:MAX_PROBLEMS]]
    if len(told) > MAX_PROBLEMS:
        problems.append(f"{place(source, told[MAX_PROBLEMS][0])}: and {len(told) - MAX_PROBLEMS} problems from here on")
    raise FileError(*problems)


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
    return read(read_text(file, kind), str(file), file_type)


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
    text = read_text(file, kind)
    content = read(text, str(file), file_type)
    name = getattr(content, "name", None)
    if name != file.stem:
        where = place(file, line_of(text, ("name",)), "name")
        raise FileError(f"{where}: {name!r} is not the file's name; write `name: {file.stem}`")
    return content


def fields_of(file: Path) -> set[str]:
    """The names of a file's fields, whatever the file is; none if it is no mapping.

    Raises:
        InputError: It can't be read, or is no YAML.
    """
    _, data = parse(read_text(file, "scenario file"), str(file))
    return set(data) if isinstance(data, dict) else set()


def line_in_file(file: Path, path: FieldPath) -> int:
    """The line of a field in a file that was read, counted from 1.

    Raises:
        InputError: The file can't be read any more.
    """
    return line_of(read_text(file, "scenario file"), path)


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
