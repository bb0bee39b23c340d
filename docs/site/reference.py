"""Writes the pages of the reference that follow from the code: commands, Python, fields of files, settings, errors."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import typer
from app.core.config import Settings
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined
from stakesim.commands.cli import cli
from stakesim.economics.sweep_file import SweepFile
from stakesim.generate.profiles import Profile
from stakesim.paths import shipped
from stakesim.population.population import Population
from stakesim.scenario.base_action import ErrorName
from stakesim.scenario.scenario import Scenario
from stakesim.schema.fields import StrictModel

PYTHON = {
    "Run and read": ["stakesim.run", "stakesim.CampaignResult", "stakesim.Scenario", "stakesim.read_ledger"],
    "Sweeps": ["stakesim.economics.sweep", "stakesim.economics.sweep_runs", "stakesim.economics.read_sweep"],
    "Behaviours": ["stakesim.population.behaviours", "stakesim.population.state"],
    "Prices": ["stakesim.prices.price_models"],
    "An adapter for your backend": ["stakesim.backend"],
    "An engine": ["stakesim.evm.engine"],
    "Faults for your service": ["stakesim.faults.protocol", "stakesim.faults.events"],
}
"""Modules and names that are meant for others to use, by heading."""

ELSEWHERE = {
    "PriceError": "the price of ETH can't be used, so nothing is quoted",
    "PaymentTooSmall": "less than 1 INR is due, which no gateway takes",
    "NotPaid": "the quote's INR are not captured",
    "PaymentUnusable": "the payment came too late, is used, refunded or disputed",
    "OwnableUnauthorizedAccount": "only the owner may do this",
    "EnforcedPause": "the contract takes no new runs and bookings at present",
    "ExpectedPause": "it is not paused",
    "Panic": "Solidity's own: 0x11 is an overflow, 0x21 no value of an enumeration",
    "NotPayable": "wei were sent to a function that takes none, which fails without a reason",
}
"""Errors that are not declared in the contract's interface: of the backend, of OpenZeppelin, and of Solidity."""
_BOUNDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
"""Types of JSON schemas in words."""


def write(folder: Path) -> None:
    """Writes all pages into a folder."""
    folder.mkdir(parents=True)
    pages = {
        "COMMANDS": commands(),
        "PYTHON_API": python_api(),
        "SCENARIO_FIELDS": scenario_fields(),
        "SWEEP_FIELDS": sweep_fields(),
        "SETTINGS": settings(),
        "ERRORS": errors(),
    }
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def commands() -> str:
    """The page of all commands, from the command line itself."""
    group: Any = typer.main.get_command(cli)
    context = group.make_context("stakesim", ["run"], resilient_parsing=True)
    panels: dict[str, list[str]] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if not command.hidden:
            panels.setdefault(command.rich_help_panel, []).extend(_command(command, name, context))
    intro = "Every command with its options, as `stakesim COMMAND -h` prints them. [Options that commands share]"
    intro += "(../docs/COMMAND_LINE.md#options-that-commands-share) are the same everywhere."
    parts = [f"## {panel}\n\n" + "\n\n".join(texts) for panel, texts in panels.items()]
    return "\n\n".join(["# Commands", intro, *parts, ""])


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield f"### stakesim {parent.info_name + ' ' if parent.parent else ''}{name}"
    yield inspect.cleandoc(command.help or "")
    for child in getattr(command, "commands", {}).values():
        yield from (re.sub("^###", "####", text) for text in _command(child, child.name, context))
    records = [record for part in command.get_params(context) if (record := part.get_help_record(context))]
    rows = [(f"`{_without_type(names)}`", meaning) for names, meaning in records if "--help" not in names]
    if rows:
        yield _table(("option", "meaning"), rows)


def _without_type(names: str) -> str:
    return re.sub(r" <(str|path|file|int range|float range)(\.\.\.)?>|<list\[str\]>", "", names).strip()


def python_api() -> str:
    """The page of the names for others to use, which mkdocstrings fills."""
    parts = ["# Python", "What is meant to be used from outside. Everything else may change with any version."]
    for heading, names in PYTHON.items():
        parts += [f"## {heading}", *(f"::: {name}" for name in names)]
    return "\n\n".join([*parts, ""])


def scenario_fields() -> str:
    """The page of the fields of scenario files."""
    intro = "[How to write a scenario](../scenarios/README.md) explains them; this page has each field once, from"
    intro += " the code that reads the files."
    return _fields("Fields of scenario files", intro, [Scenario])


def sweep_fields() -> str:
    """The page of the fields of profiles, populations and sweeps."""
    intro = "Profiles are in `scenarios/profiles`, populations in `scenarios/populations`, sweeps in"
    intro += " `scenarios/sweeps`; [how they are used](../scenarios/README.md#random-campaigns)."
    return _fields("Fields of profiles, populations and sweeps", intro, [Profile, Population, SweepFile])


def _fields(title: str, intro: str, file_types: list[type[BaseModel]]) -> str:
    parts = [f"# {title}", intro]
    told: set[str] = set()
    classes = {kind.__name__: kind for kind in _subclasses(StrictModel)}
    for file_type in file_types:
        schema = file_type.model_json_schema()
        parts.append(_model(file_type.__name__, schema, _described(file_type)))
        for name, model in schema.get("$defs", {}).items():
            if "properties" in model and name not in told:
                told.add(name)
                parts.append(_model(name, model, _described(classes[name])))
    return "\n\n".join([*parts, ""])


def _model(name: str, model: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    required = model.get("required", [])
    rows = []
    for field, kind in model["properties"].items():
        if "const" in kind:
            continue
        default = "required" if field in required else _default(kind.get("default"))
        rows.append((f"`{field}`", _kind(kind), default, meanings.get(field, "")))
    kinds = [f"`{field}: {kind['const']}`" for field, kind in model["properties"].items() if "const" in kind]
    story = re.split(r"\n+Attributes:", model.get("description", ""))[0]
    return "\n\n".join([f"## {name}", *kinds, story, _table(("field", "value", "default", "meaning"), rows)])


def _kind(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        few = len(schema["enum"]) <= 12
        return ", ".join(f"`{value}`" for value in schema["enum"]) if few else "a name; see [Errors](ERRORS.md)"
    if described := schema.get("description"):
        return str(described)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            kinds = [_kind(kind) for kind in schema[union] if kind.get("type") != "null"]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {_kind(schema['prefixItems'][0])}"
        return "list of " + _kind(schema.get("items", {}))
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"names with {_kind(values)}" if isinstance(values, dict) else "names with values"
    bounds = [f"{words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema]
    return ", ".join([_TYPES.get(schema.get("type", ""), ""), *bounds])


def settings() -> str:
    """The page of the backend's settings."""
    meanings = _described(Settings)
    rows = [
        (f"`{name.upper()}`", "required" if field.is_required() else _default(field.default), meanings.get(name, ""))
        for name, field in Settings.model_fields.items()
    ]
    intro = "The service reads them from the environment and from `.env`; the environment wins."
    intro += " [.env.example](../backend/.env.example) is a file to start from; `stakesim doctor` checks all of them."
    return "\n\n".join(["# Settings of the service", intro, _table(("setting", "default", "meaning"), rows), ""])


def _default(value: Any) -> str:
    """A default as one writes it in the file; nothing if it is empty."""
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    if value in (None, PydanticUndefined, [], {}, ""):
        return ""
    if isinstance(value, dict | list | bool):
        return f"`{json.dumps(value).replace(chr(34), '')}`"
    return f"`{str(value).replace(',', ', ')}`"


def errors() -> str:
    """The page of the errors with which an action can fail."""
    interface = shipped("contracts/IEventStake.sol").read_text(encoding="utf-8")
    declared = {
        name: ((notice or "").removeprefix("/// @notice ").strip(), arguments)
        for notice, name, arguments in re.findall(r"(/// @notice [^\n]*\n)?\s+error (\w+)\((.*?)\);", interface)
    }
    rows = []
    for name in get_args(ErrorName):
        notice, arguments = declared.get(name, (ELSEWHERE.get(name, ""), ""))
        rows.append((f"`{name}`", f"`{arguments}`" if arguments else "", notice or _words(name)))
    return "\n\n".join(
        [
            "# Errors",
            "How an action can fail: the names that `fails` of a scenario takes. Model, contract and backend"
            " must agree on the name. Elsewhere: [exit codes](../docs/COMMAND_LINE.md#exit-codes), the"
            " [problems of the HTTP API](../backend/API.md#problems), and the"
            " [weaknesses and faults](../docs/ADOPT.md) that stakesim names.",
            _table(("name", "arguments", "meaning"), rows),
            "",
        ]
    )


def _words(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", lambda letter: " " + letter[1].lower(), name).lower()


def _described(model: type[BaseModel]) -> dict[str, str]:
    """What docstrings of a model and its bases, and the strings below its fields, say about each field."""
    meanings: dict[str, str] = {}
    for part in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0].body  # type: ignore[attr-defined]
        for field, text in itertools.pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as meaning)):
                    meanings[name] = meaning
        meanings |= _attributes(part.__doc__ or "")
    return meanings


def _subclasses(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    kind: type[BaseModel]
    for kind in model.__subclasses__():
        yield from (kind, *_subclasses(kind))


def _attributes(docstring: str) -> dict[str, str]:
    """The section `Attributes` of a docstring in Google style."""
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), line("---" for _ in head), *map(line, rows)])
