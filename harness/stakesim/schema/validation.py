"""Pydantic's validation errors in the words of the file: which field is wrong, and what to write instead."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from stakesim.schema.errors import FieldError, FieldErrors, FieldPath, suggestion

_WHOLE = "write a whole number in the digits 0 to 9, without quotes"
_NUMBER = "write a number in the digits 0 to 9, without quotes"
_ADVICE = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
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
"""What to do about pydantic's error types, formatted with the error's context."""


def explain(error: Mapping[str, Any], data: Any, file_type: type[BaseModel]) -> Iterator[tuple[FieldPath, str]]:
    """Explains one of pydantic's errors.

    Args:
        error: One of `ValidationError.errors()`.
        data: The content of the whole file.
        file_type: The model that the content was validated against.

    Yields:
        A field that is wrong, and the second half of a sentence about it: "is missing; add `seats: ...`".
    """
    cause = error.get("ctx", {}).get("error")
    path = _path_in_file(error["loc"], data, missing=error["type"] == "missing")
    if isinstance(cause, FieldErrors | FieldError):
        for each in cause.errors if isinstance(cause, FieldErrors) else [cause]:
            yield path + each.path, str(each)
    elif isinstance(cause, ValueError):
        yield path, str(cause)
    else:
        yield _explain_kind(error, path, file_type)


def _explain_kind(error: Mapping[str, Any], path: FieldPath, file_type: type[BaseModel]) -> tuple[FieldPath, str]:
    """Explains an error that pydantic itself found."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    match kind:
        case "missing":
            return path, f"is missing; add `{path[-1]}: ...`"
        case "extra_forbidden":
            return path, f"is no field here; {suggestion(str(path[-1]), _sibling_fields(error['loc'], file_type))}"
        case "union_tag_not_found":
            field = context["discriminator"].strip("'")
            return (*path, field), f"is missing; add `{field}: ...`"
        case "union_tag_invalid":
            field = context["discriminator"].strip("'")
            tags = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
            return (*path, field), f"there is no {context['tag']!r}; {suggestion(context['tag'], tags)}"
        case "literal_error":
            choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
            return path, f"can't be {value!r}; {suggestion(str(value), choices)}"
        case _:
            shown = "empty" if value is None else repr(value)
            advice = _ADVICE[kind].format(**context) if kind in _ADVICE else error["msg"]
            return path, f"is {shown}; {advice}"


def format_path(path: FieldPath) -> str:
    """The field as a file's author would write it: ("actions", 3, "seats") is "actions[3].seats"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") or "the file"


def _path_in_file(location: FieldPath, data: Any, *, missing: bool) -> FieldPath:
    """Pydantic's location without the parts that the file does not have, such as names of union members.

    The last part stays if it is what is missing.
    """
    path: list[str | int] = []
    for part in location:
        in_file = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if in_file:
            path.append(part)
            data = data[part]
    return (*path, location[-1]) if missing else tuple(path)


def _sibling_fields(location: FieldPath, file_type: type[BaseModel]) -> Iterable[str]:
    """The fields of the model that `location` is in, according to the JSON schema."""
    schema = _json_schema(file_type)
    model: Any = schema
    for part in location[:-1]:
        model = _dereferenced(model, schema)
        if "discriminator" in model:
            model = {"$ref": model["discriminator"]["mapping"].get(part, "")}
        elif isinstance(part, int):
            model = model.get("items", {})
        else:
            model = model.get("properties", {}).get(part) or model.get("additionalProperties") or {}
    return list(_dereferenced(model, schema).get("properties", {}))


@functools.cache
def _json_schema(file_type: type[BaseModel]) -> dict[str, Any]:
    return file_type.model_json_schema()


def _dereferenced(model: Any, schema: Any) -> dict[str, Any]:
    while isinstance(model, dict) and "$ref" in model:
        model = schema.get("$defs", {}).get(model["$ref"].rsplit("/", 1)[-1], {})
    return model if isinstance(model, dict) else {}
