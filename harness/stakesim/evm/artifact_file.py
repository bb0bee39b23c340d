"""An artifact that some compiler wrote, of today or of years ago, as ours are.

Old compilers leave out what their day took for granted: `outputs`, `name`, `indexed`, and `stateMutability`, which they
say by `constant` and `payable`.
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

_NO_ARTIFACT = "it needs `abi` and `bytecode`, as Foundry and Hardhat write them."
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""Or strings, in which brackets mean nothing."""
_DEEPEST = 100
_MUTABILITIES = ("pure", "view", "nonpayable", "payable")
_KINDS = {"function", "constructor", "fallback", "receive", "event", "error"}
_NAMED = {"function", "event", "error"}
_CODE = re.compile("0x(?:[0-9a-fA-F]{2})*")
_WITH_PLACEHOLDERS = re.compile("0x(?:[0-9a-fA-F]|__.{36}__)*")
"""Forty characters in place of a library's address."""


def read_artifact(path: Path) -> Artifact:
    """The artifact in a JSON file.

    Raises:
        CompileError: It is none, or something in it is not what it should be: one sentence with file and item.
    """
    try:
        fields = _json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise CompileError(f"{path} is no artifact: {_NO_ARTIFACT}") from None
    if not isinstance(fields, Mapping) or not {"abi", "bytecode"} <= fields.keys():
        raise CompileError(f"{path} is no artifact: {_NO_ARTIFACT}")
    abi = fields["abi"]
    if not isinstance(abi, list) or not all(isinstance(item, Mapping) and "type" in item for item in abi):
        raise CompileError(f"{path} is no artifact: its `abi` is none.")
    items = [_Item(path, item).read() for item in abi]
    code = _code(path, "bytecode", fields["bytecode"])
    if len(code) <= 2:
        raise CompileError(f"{path} has no bytecode: an interface, or an abstract contract, can't be deployed.")
    deployed = fields.get("deployedBytecode") or "0x"
    holder = deployed if isinstance(deployed, Mapping) else fields
    return Artifact(
        str(fields.get("contractName") or path.stem),
        str(path),
        items,
        code,
        _code(path, "deployedBytecode", deployed),
        immutables=_immutables(path, holder.get("immutableReferences") or {}),
    )


def _json(text: str) -> Any:
    """What the text says. Raises `ValueError` for no JSON.

    The depth is counted first: py-evm raises the limit for Python's stack, and then `json` crashes instead of refusing.
    """
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth > _DEEPEST:
            raise ValueError
    return json.loads(text)


def _code(path: Path, field: str, given: Any) -> str:
    """Foundry has the code in an object, beside its references."""
    text = given.get("object", "") if isinstance(given, Mapping) else given
    if not isinstance(text, str):
        raise CompileError(f"{path} is no artifact: its `{field}` is {_shown(given)}, not code in hex.")
    code = text if text.startswith("0x") else f"0x{text}"
    if _CODE.fullmatch(code):
        return code
    if "_" in code and _WITH_PLACEHOLDERS.fullmatch(code):
        raise CompileError(f"{path} is not linked: give an artifact whose libraries have addresses.")
    if re.fullmatch("0x[0-9a-fA-F]*", code):
        raise CompileError(f"{path} is no artifact: its `{field}` has an odd number of digits, so a part is missing.")
    raise CompileError(f"{path} is no artifact: its `{field}` is {_shown(text)}, not code in hex.")


def _immutables(path: Path, given: Any) -> dict[str, list[dict[str, int]]]:
    lists = list(given.values()) if isinstance(given, Mapping) else [None]
    places = [place for one in lists for place in (one if isinstance(one, list) else [None])]
    for place in places:
        numbers = [place.get("start"), place.get("length")] if isinstance(place, Mapping) else [None]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise CompileError(f"{path} is no artifact: its `immutableReferences` are not lists of start and length.")
    return dict(given)


class _Item:
    """One item of an ABI, as ours are written."""

    def __init__(self, path: Path, given: Mapping[str, Any]) -> None:
        self._path, self._given = path, given
        self._called = f"{_shown(given['type'])} {_shown(given.get('name', ''))}".strip()

    def read(self) -> dict[str, Any]:
        """Raises `CompileError`."""
        given, kind = self._given, self._given["type"]
        if not isinstance(kind, str) or kind not in _KINDS:
            raise self._wrong(f"can't be of the type {_shown(kind)}")
        name = given.get("name", "")
        if not isinstance(name, str) or (kind in _NAMED and not name):
            raise self._wrong("has no name" if name == "" else "has a name that is no text")
        item = {**given, "inputs": self._parameters("inputs", given.get("inputs", []))}
        if kind == "function":
            item["outputs"] = self._parameters("outputs", given.get("outputs", []))
        if kind == "event":
            for parameter in item["inputs"]:
                parameter["indexed"] = self._flag("indexed", parameter)
            item["anonymous"] = self._flag("anonymous", given)
        if kind not in ("event", "error"):
            item["stateMutability"] = self._mutability()
        return item

    def _mutability(self) -> str:
        given = self._given
        if "stateMutability" in given:
            if given["stateMutability"] not in _MUTABILITIES:
                raise self._wrong(f"has the stateMutability {_shown(given['stateMutability'])}")
            return str(given["stateMutability"])
        if self._flag("constant", given):
            return "view"
        return "payable" if self._flag("payable", given) or given["type"] == "receive" else "nonpayable"

    def _flag(self, name: str, given: Mapping[str, Any]) -> bool:
        flag = given.get(name, False)
        if not isinstance(flag, bool):
            raise self._wrong(f"has `{name}` {_shown(flag)}, not true or false")
        return flag

    def _parameters(self, field: str, given: Any) -> list[dict[str, Any]]:
        if not isinstance(given, list) or not all(isinstance(parameter, Mapping) for parameter in given):
            raise self._wrong(f"has `{field}` that are no list of parameters")
        return [self._parameter(parameter) for parameter in given]

    def _parameter(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name, kind = given.get("name", ""), given.get("type")
        if not isinstance(name, str):
            raise self._wrong(f"has a parameter whose name is {_shown(name)}")
        if not isinstance(kind, str):
            raise self._wrong(f"has a parameter {_shown(name)} without a type")
        is_tuple = kind.startswith("tuple")
        try:
            plain: str = normalize(  # type: ignore[no-untyped-call]
                kind.replace("tuple", "(uint8)", 1) if is_tuple else kind
            )
            parse(plain).validate()
        except (ABITypeError, ParseError, ValueError):
            raise self._wrong(f"has a parameter of the type {_shown(kind)}, which the ABI does not have") from None
        parameter = {**given, "name": name, "type": kind if is_tuple or kind == "function" else plain}
        if is_tuple:
            if "components" not in given:
                raise self._wrong(f"has a parameter of the type {kind} without `components`")
            parameter["components"] = self._parameters("components", given["components"])
        return parameter

    def _wrong(self, what: str) -> CompileError:
        return CompileError(f"{self._path} is no artifact: in its `abi`, {self._called} {what}; compile it anew.")


def _shown(given: Any) -> str:
    """In a sentence: no longer than it takes to find it."""
    text = given if isinstance(given, str) else json.dumps(given)
    return text if len(text) <= 40 else f"{text[:37]}..."
