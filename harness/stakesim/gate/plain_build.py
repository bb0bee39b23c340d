"""Compiles a contract without optimizer, with its syntax tree: for mutants and coverage.

Without the optimizer each instruction belongs to one place in the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stakesim.evm.compiler import (
    CONTRACTS,
    SETTINGS,
    Artifact,
    CompileError,
    Compiler,
    artifacts_from_output,
    error_messages,
    node_modules,
)
from stakesim.evm.contract_file import ContractPath, select_contract
from stakesim.evm.coverage import compiled_nodes
from stakesim.evm.import_resolver import Origin, SolidityFile, collect_files

PLAIN_SETTINGS = SETTINGS | {
    "viaIR": False,
    "optimizer": {"enabled": False},
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},  # a mutant that compiles to the same code is no mutant
}
"""Compiles ten times as fast. The code does the same for more gas, so gas is not judged."""
COVERAGE_SETTINGS = PLAIN_SETTINGS | {
    "optimizer": {"enabled": False, "details": {"peephole": False, "jumpdestRemover": False}}
}
"""With each jump as the condition has it: otherwise the compiler turns some around, even without its optimizer."""
DEPLOYED_SETTINGS = SETTINGS | {"metadata": PLAIN_SETTINGS["metadata"]}
"""Those of a deploy, without the hash of the sources."""


@dataclass(frozen=True)
class ParsedFile:
    """A file with its syntax tree.

    Attributes:
        name: Its name among the sources.
        path: Where it is.
        source: Source code.
        tree: Syntax tree.
        index: The compiler's number of the file, for source maps.
        origin: Whose it is.
    """

    name: str
    path: Path
    source: str
    tree: Mapping[str, Any]
    index: int
    origin: Origin

    def contract(self, name: str) -> Mapping[str, Any]:
        """Node of a contract of the file."""
        nodes = self.tree["nodes"]
        return next(node for node in nodes if node["nodeType"] == "ContractDefinition" and node["name"] == name)


@dataclass(frozen=True)
class Unit:
    """A contract, library or free function that a contract's code comes from.

    Attributes:
        file: Its file.
        definition: Its node.
        unused: Ids of its functions and modifiers that the code does not have.
    """

    file: ParsedFile
    definition: Mapping[str, Any]
    unused: frozenset[int]


@dataclass(frozen=True)
class PlainBuild:
    """A contract compiled without optimizer.

    Attributes:
        path: Of its file.
        sources: Source code by name, of the file and all that it imports.
        artifact: The contract.
        tree: Syntax tree of the file.
        index: The compiler's number of the file, for source maps.
        parsed: The file, and all files that it imports but those of the packages that come with the library.
    """

    path: Path
    sources: Mapping[str, str]
    artifact: Artifact
    tree: Mapping[str, Any]
    index: int
    parsed: tuple[ParsedFile, ...]

    @cached_property
    def files(self) -> list[ParsedFile]:
        """The contract's file, and the project's other files that its code comes from."""
        return list({each.file.name: each.file for each in self.units}.values())

    @cached_property
    def definition(self) -> Mapping[str, Any]:
        """The contract's node."""
        return self.parsed[0].contract(self.artifact.name)

    @cached_property
    def units(self) -> list[Unit]:
        """What the contract's code comes from in the project's files: itself, bases, libraries, free functions."""
        return [unit for unit in self._units if unit.file.origin is Origin.PROJECT]

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """What of the contract is neither measured nor mutated, in words."""
        origins = {unit.file.name: unit.file.origin for unit in self._units}
        remapped = [name for name, origin in origins.items() if origin is Origin.REMAPPED]
        packages = dict.fromkeys(_package(name) for name, origin in origins.items() if origin is Origin.PACKAGE)
        created = [f"{contract['name']} ({file.name}), which it creates" for file, contract in self._created()]
        texts = [*created, *(f"{name}, a file that remappings lead to" for name in remapped)]
        texts += [f"{name}, a package" for name in packages]
        return tuple(f"coverage and mutants of {text}" for text in texts)

    @cached_property
    def _units(self) -> list[Unit]:
        bases, units = self.definition["linearizedBaseContracts"], []
        for file in self.parsed:
            compiled = {node["id"] for node in compiled_nodes(self.artifact, file.tree, file.index)}
            for node in file.tree["nodes"]:
                functions = {each["id"] for each in (node, *node.get("nodes", ())) if each["nodeType"] in _CALLABLE}
                is_base = node["nodeType"] == "ContractDefinition" and node["id"] in bases and _has_code(node)
                if is_base or functions & compiled:
                    unused = frozenset() if node is self.definition else frozenset(functions - compiled)
                    units.append(Unit(file, node, unused))
        return sorted(units, key=lambda unit: (unit.file is not self.parsed[0], unit.definition is not self.definition))

    def _created(self) -> Iterator[tuple[ParsedFile, Mapping[str, Any]]]:
        """Contracts whose code this contract has as data, to create them, directly or not."""
        contracts = {
            node["id"]: (file, node)
            for file in self.parsed
            for node in file.tree["nodes"]
            if node["nodeType"] == "ContractDefinition"
        }
        own = self.definition["linearizedBaseContracts"]
        waiting, seen = list(own), set(own)
        while waiting:
            file_and_node = contracts.get(waiting.pop())
            if file_and_node is None:  # of a package that comes with the library
                continue
            if file_and_node[1]["id"] not in own:
                yield file_and_node
            new = set(file_and_node[1].get("contractDependencies", ())) - seen
            if file_and_node[1]["id"] not in own:
                new |= set(file_and_node[1]["linearizedBaseContracts"]) - seen
            seen |= new
            waiting += sorted(new)

    @property
    def file(self) -> str:
        """Name of the file in `sources`."""
        return self.path.name

    @property
    def source(self) -> str:
        """Source code of the file."""
        return self.sources[self.file]


def build(contract: str | Path | None = None, settings: Mapping[str, Any] = PLAIN_SETTINGS) -> PlainBuild:
    """Compiles a Solidity file and what it imports.

    Args:
        contract: FILE.sol, or FILE.sol:Name if it has several contracts; by default the packaged `EventStake`.
        settings: `PLAIN_SETTINGS` or `COVERAGE_SETTINGS`.

    Raises:
        CompileError: It does not compile, or the file does not have this contract.
    """
    path, name = ContractPath.parse(contract or f"{CONTRACTS / 'EventStake.sol'}:EventStake")
    if path.suffix != ".sol":
        raise CompileError(f"{path} has no source: give a Solidity file, as FILE.sol:Name.")
    if not path.is_file():
        raise CompileError(f"{path} can't be read: give a Solidity file.")
    path = path.resolve()
    files = collect_files(path)
    sources = {each: file.text for each, file in files.items()}
    unknown = [each for each, file in files.items() if not _is_pinned(each, file)]
    with Compiler() as compiler:
        output = compile_plain(compiler, sources, path.name, trees=unknown, settings=settings)
    if errors := error_messages(output.get("errors", ())):
        raise CompileError(errors)
    artifact = select_contract(artifacts_from_output(output, sources), path.name, name)
    parsed = tuple(_parsed(each, files[each], output["sources"][each]) for each in unknown)
    return PlainBuild(path, sources, artifact, parsed[0].tree, parsed[0].index, parsed)


_CALLABLE = ("FunctionDefinition", "ModifierDefinition")


def _is_pinned(name: str, file: SolidityFile) -> bool:
    """Whether a file is one of the packages that come with the library, wherever the project has it from."""
    pinned = node_modules() / name
    return file.origin is not Origin.PROJECT and pinned.is_file() and pinned.read_text(encoding="utf-8") == file.text


def _package(name: str) -> str:
    """The package that a file is of: the first folder of its name, or the first two, as in `@scope/package`."""
    first, *others = name.split("/")[:-1] or [name]
    return "/".join([first, *others[:1]]) if first.startswith("@") or first in ("lib", "node_modules") else first


def _has_code(contract: Mapping[str, Any]) -> bool:
    """Whether a contract has state or functions with a body, unlike an interface."""
    return any(node["nodeType"] == "VariableDeclaration" or node.get("body") for node in contract["nodes"])


def _parsed(name: str, file: SolidityFile, compiled: Mapping[str, Any]) -> ParsedFile:
    return ParsedFile(name, file.path, file.text, compiled["ast"], compiled["id"], file.origin)


def compile_plain(
    compiler: Compiler,
    sources: Mapping[str, str],
    file: str,
    *,
    trees: Sequence[str] = (),
    settings: Mapping[str, Any] = PLAIN_SETTINGS,
) -> dict[str, Any]:
    """Compiles the contracts of one file.

    Args:
        compiler: An open compiler.
        sources: Source code by name.
        file: Name of the file.
        trees: Names of the sources whose syntax trees the output has.
        settings: See `build`.

    Returns:
        The compiler's standard JSON output. Errors are in it, under `errors`.
    """
    outputs: dict[str, Any] = {name: {"": ["ast"]} for name in trees}
    outputs.setdefault(file, {})["*"] = ["abi", "evm.bytecode", "evm.deployedBytecode"]
    return _compile(compiler, sources, settings, outputs)


def compile_contract(
    compiler: Compiler, sources: Mapping[str, str], file: str, contract: str, settings: Mapping[str, Any]
) -> Artifact | None:
    """Compiles one contract, without source maps.

    Args:
        compiler: An open compiler.
        sources: Source code by name.
        file: Name of the file.
        contract: Name of the contract.
        settings: `PLAIN_SETTINGS` or `DEPLOYED_SETTINGS`.

    Returns:
        The contract; None if it does not compile.
    """
    output = _compile(compiler, sources, settings, {file: {contract: _CODE}})
    if any(error["severity"] == "error" for error in output.get("errors", ())):
        return None
    return artifacts_from_output(output, sources)[contract]


_CODE = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"]


def _compile(
    compiler: Compiler, sources: Mapping[str, str], settings: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, Any]:
    return compiler.compile(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in sources.items()},
            "settings": {**settings, "outputSelection": outputs},
        }
    )
