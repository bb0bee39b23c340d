"""JSON of others: nested so deeply that Python's parser would overflow the stack, it is refused."""

import ast
from pathlib import Path

import pytest
import stakesim
from stakesim.json_text import parse_json

OWN = {
    "json_text",
    "bench/contenders",
    "commands/calibrate",
    "commands/decide",
    "commands/plan",
    "commands/sweep",
    "economics/gas",
    "economics/report",
    "evm/compiler",
    "evm/in_process/trace",
    "evm/required_abi",
    "evm/solc_install",
    "evm/source_build",
    "runner/gas_budget",
}
"""Modules that read with `json` what the library ships, has in memory, or had from a program of its own."""


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 101, "[" * 101 + "]" * 101])
def test_what_is_nested_too_deeply_is_refused(text):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(text)


def test_brackets_in_texts_do_not_count():
    assert parse_json('["' + "[" * 1_000 + '", "\\"[{"]') == ["[" * 1_000, '"[{']


def test_no_other_module_reads_files_of_others_without_this_check():
    package = Path(stakesim.__file__).parent
    unchecked = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("loads", "load") and ast.unparse(node.value) == "json":
                unchecked.add(file.relative_to(package).with_suffix("").as_posix())
    assert unchecked <= OWN
