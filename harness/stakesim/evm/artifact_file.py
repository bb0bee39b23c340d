"""Reads a compiler's artifact, however old, and fills in what today's compilers write.

Old compilers leave out `outputs`, `name` and `indexed` where they are empty or false, and write `constant` and
`payable` instead of `stateMutability`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eth_abi.exceptions import ABITypeError, ParseError
from eth_abi.grammar import normalize, parse

from stakesim.evm.compiler import Artifact, CompileError
from stakesim.json_text import parse_json

_REQUIRED_FIELDS = "it needs `abi` and `bytecode`, as Foundry and Hardhat write them."
_MUTABILITIES = ("pure", "view", "nonpayable", "payable")
_ITEM_TYPES = {"function", "constructor", "fallback", "receive", "event", "error"}
_NAMED_ITEM_TYPES = {"function", "event", "error"}
_CODE = re.compile("0x(?:[0-9a-fA-F]{2})*")
_UNLINKED_CODE = re.compile("0x(?:[0-9a-fA-F]|__.{36}__)*")
"""Code with placeholders of 40 characters for the addresses of libraries."""
_MAX_QUOTE = 40


def read_artifact(path: Path) -> Artifact:
    """Reads the artifact in a JSON file.

    Raises:
        CompileError: The file is no artifact, is not linked, or has no code. The sentence names the file and the item
            of the ABI that is wrong.
    """
    try:
        fields = parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise CompileError(f"{path} is no artifact: {_REQUIRED_FIELDS}") from None
    if not isinstance(fields, Mapping) or not {"abi", "bytecode"} <= fields.keys():
        raise CompileError(f"{path} is no artifact: {_REQUIRED_FIELDS}")
    abi = fields["abi"]
    if not isinstance(abi, list) or not all(isinstance(item, Mapping) and "type" in item for item in abi):
        raise CompileError(f"{path} is no artifact: its `abi` is none.")
    items = [_AbiItemReader(path, item).read() for item in abi]
    code = _read_code(path, "bytecode", fields["bytecode"])
    if len(code) <= 2:
        raise CompileError(f"{path} has no bytecode: an interface, or an abstract contract, can't be deployed.")
    deployed = fields.get("deployedBytecode") or "0x"
    immutables_holder = deployed if isinstance(deployed, Mapping) else fields
    return Artifact(
        str(fields.get("contractName") or path.stem),
        str(path),
        items,
        code,
        _read_code(path, "deployedBytecode", deployed),
        immutables=_read_immutables(path, immutables_holder.get("immutableReferences") or {}),
    )


def _read_code(path: Path, field: str, value: Any) -> str:
    """Reads a code field. Foundry writes an object with the code in `object`."""
    text = value.get("object", "") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        raise CompileError(f"{path} is no artifact: its `{field}` is {_quote(value)}, not code in hex.")
    code = text if text.startswith("0x") else f"0x{text}"
    if _CODE.fullmatch(code):
        return code
    if "_" in code and _UNLINKED_CODE.fullmatch(code):
        raise CompileError(f"{path} is not linked: give an artifact whose libraries have addresses.")
    if re.fullmatch("0x[0-9a-fA-F]*", code):
        raise CompileError(f"{path} is no artifact: its `{field}` has an odd number of digits, so a part is missing.")
    raise CompileError(f"{path} is no artifact: its `{field}` is {_quote(text)}, not code in hex.")


def _read_immutables(path: Path, value: Any) -> dict[str, list[dict[str, int]]]:
    lists = list(value.values()) if isinstance(value, Mapping) else [None]
    places = [place for each in lists for place in (each if isinstance(each, list) else [None])]
    for place in places:
        numbers = [place.get("start"), place.get("length")] if isinstance(place, Mapping) else [None]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise CompileError(f"{path} is no artifact: its `immutableReferences` are not lists of start and length.")
    return dict(value)


class _AbiItemReader:
    """Checks one item of an ABI, and completes it as today's compilers write it."""

    def __init__(self, path: Path, item: Mapping[str, Any]) -> None:
        self._path, self._item = path, item
        self._title = f"{_quote(item['type'])} {_quote(item.get('name', ''))}".strip()

    def read(self) -> dict[str, Any]:
        """Returns the completed item. Raises `CompileError`."""
        item, item_type = self._item, self._item["type"]
        if not isinstance(item_type, str) or item_type not in _ITEM_TYPES:
            raise self._error(f"can't be of the type {_quote(item_type)}")
        name = item.get("name", "")
        if not isinstance(name, str) or (item_type in _NAMED_ITEM_TYPES and not name):
            raise self._error("has no name" if name == "" else "has a name that is no text")
        completed = {**item, "inputs": self._parameters("inputs", item.get("inputs", []))}
        if item_type == "function":
            completed["outputs"] = self._parameters("outputs", item.get("outputs", []))
        if item_type == "event":
            for parameter in completed["inputs"]:
                parameter["indexed"] = self._flag("indexed", parameter)
            completed["anonymous"] = self._flag("anonymous", item)
        if item_type not in ("event", "error"):
            completed["stateMutability"] = self._mutability()
        return completed

    def _mutability(self) -> str:
        item = self._item
        if "stateMutability" in item:
            if item["stateMutability"] not in _MUTABILITIES:
                raise self._error(f"has the stateMutability {_quote(item['stateMutability'])}")
            return str(item["stateMutability"])
        if self._flag("constant", item):
            return "view"
        return "payable" if self._flag("payable", item) or item["type"] == "receive" else "nonpayable"

    def _flag(self, name: str, fields: Mapping[str, Any]) -> bool:
        flag = fields.get(name, False)
        if not isinstance(flag, bool):
            raise self._error(f"has `{name}` {_quote(flag)}, not true or false")
        return flag

    def _parameters(self, field: str, parameters: Any) -> list[dict[str, Any]]:
        if not isinstance(parameters, list) or not all(isinstance(parameter, Mapping) for parameter in parameters):
            raise self._error(f"has `{field}` that are no list of parameters")
        return [self._parameter(parameter) for parameter in parameters]

    def _parameter(self, parameter: Mapping[str, Any]) -> dict[str, Any]:
        name, type_name = parameter.get("name", ""), parameter.get("type")
        if not isinstance(name, str):
            raise self._error(f"has a parameter whose name is {_quote(name)}")
        if not isinstance(type_name, str):
            raise self._error(f"has a parameter {_quote(name)} without a type")
        is_tuple = type_name.startswith("tuple")
        try:
            canonical: str = normalize(  # type: ignore[no-untyped-call]
                type_name.replace("tuple", "(uint8)", 1) if is_tuple else type_name
            )
            parse(canonical).validate()
        except (ABITypeError, ParseError, ValueError):
            raise self._error(f"has a parameter of the type {_quote(type_name)}, which the ABI does not have") from None
        keeps_type = is_tuple or type_name == "function"  # which `normalize` turns into bytes24
        completed = {**parameter, "name": name, "type": type_name if keeps_type else canonical}
        if is_tuple:
            if "components" not in parameter:
                raise self._error(f"has a parameter of the type {type_name} without `components`")
            completed["components"] = self._parameters("components", parameter["components"])
        return completed

    def _error(self, problem: str) -> CompileError:
        return CompileError(f"{self._path} is no artifact: in its `abi`, {self._title} {problem}; compile it anew.")


def _quote(value: Any) -> str:
    """Returns a value's text for an error message, cut to `_MAX_QUOTE` characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_QUOTE else f"{text[: _MAX_QUOTE - 3]}..."
