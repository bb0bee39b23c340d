"""The project that the user works in: the section `[tool.stakesim]` of its `pyproject.toml`.

[tool.stakesim]
backend = "stakesim_adapter:open_backend"   # the system under test; without it scenarios drive the contract alone
contract = "contracts/Stake.sol:Stake"      # the contract to deploy; without it the packaged EventStake
path = ["backend"]                          # folders to import `backend` from, beside the project's own
scenarios = "scenarios"                     # the folder of the project's scenarios
reviewed = "gate"                           # the folder of the reviewed lists that `stakesim gate` reads
"""

from __future__ import annotations

import functools
import importlib
import sys
import tomllib
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stakesim.errors import StakesimError
from stakesim.paths import checkout, shipped

_KEYS: dict[str, type] = {
    "backend": str,
    "contract": str,
    "commands": str,
    "faults": str,
    "path": list,
    "scenarios": str,
    "artifact": str,
    "gas": str,
    "reviewed": str,
}
"""Keys of the section, with the types of their values. A list is one of strings."""


class ProjectError(StakesimError):
    """`[tool.stakesim]`, or what it names, is wrong."""


@dataclass(frozen=True)
class Project:
    """What `[tool.stakesim]` says. Paths are absolute.

    Attributes:
        root: Folder of the `pyproject.toml`; the working directory if no `pyproject.toml` has the section.
        backend: `module:function` that opens the system under test.
        contract: What to deploy instead of the packaged `EventStake`, as `--contract` takes it.
        commands: `module:app` of a typer application whose commands `stakesim` offers too.
        faults: `module:object` of the project's `stakesim.faults.protocol.FaultCampaign`.
        path: Folders to add to `sys.path` before importing any of these.
        scenarios: Folder of the project's scenarios.
        artifact: File that `stakesim compile --write` writes the production artifact to.
        gas: File of the committed gas table.
        reviewed: Folder of the reviewed lists that the gate reads: `equivalent_mutants.json`, `unreached.json`.
    """

    root: Path
    backend: str | None = None
    contract: str | None = None
    commands: str | None = None
    faults: str | None = None
    path: tuple[Path, ...] = ()
    scenarios: Path | None = None
    artifact: Path | None = None
    gas: Path | None = None
    reviewed: Path | None = None

    @property
    def scenario_folders(self) -> tuple[Path, ...]:
        """Folders to look up scenarios, profiles and populations by name in, the project's own first."""
        own = () if self.scenarios is None else (self.scenarios,)
        return tuple(dict.fromkeys((*own, shipped("scenarios"))))

    @property
    def failures(self) -> Path:
        """Folder of the regressions that `stakesim run --keep` saves."""
        return self.root / "reports" / "failures" if self.scenarios is None else self.scenarios / "regressions"

    def load(self, name: str) -> Any:
        """Imports the object that `module:attribute` names.

        Raises:
            ProjectError: There is no such module or attribute, or the module can't be imported.
        """
        module_name, colon, attribute = name.partition(":")
        if not colon or not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
            raise ProjectError(f"{name!r} in [tool.stakesim] is no module:attribute, as my_adapter:open_backend is.")
        for folder in (self.root, *self.path):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        try:
            module = importlib.import_module(module_name)
        except StakesimError:
            raise
        except ModuleNotFoundError as error:
            raise self._missing_module(name, module_name, error) from None
        except (Exception, SystemExit) as error:  # whatever the project's code raises
            raise self._failed_import(module_name, error) from error
        try:
            return getattr(module, attribute)
        except AttributeError:
            raise ProjectError(f"[tool.stakesim] names {name}, and {module_name} has no {attribute}.") from None

    def _missing_module(self, name: str, module_name: str, error: ModuleNotFoundError) -> ProjectError:
        """Returns the error for a missing module: the named one, or one that it imports."""
        missing = error.name
        if missing is not None and (module_name == missing or module_name.startswith(f"{missing}.")):
            return ProjectError(
                f"[tool.stakesim] names {name}, and there is no module {module_name}: add its folder to `path`."
            )
        requirement = f"{missing}, which is not installed" if missing else f"what is not installed ({error})"
        how = "" if checkout() != self.root else " (`make serve`, or `pip install -e '.[api]'`)"
        return ProjectError(f"{module_name} needs {requirement}: install what the backend needs{how}.")

    def _failed_import(self, module_name: str, error: BaseException) -> ProjectError:
        """Returns the error for an import that raised an exception, with the place in the project's own code."""
        message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        cause = f"{type(error).__name__}: {message}" if message else type(error).__name__
        return ProjectError(f"{module_name} can't be imported ({cause}): mend it at {self._place(error)}.")

    def _place(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}:{error.lineno}"
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        folders = (self.root, *self.path)
        own = [frame for frame in frames if _is_project_file(Path(frame[0]), folders)]
        file, line = (own or frames)[-1]
        return f"{file}:{line}"


def _is_project_file(file: Path, folders: Iterable[Path]) -> bool:
    """Returns whether a file is in these folders, and not part of an installed package or of this library."""
    if "site-packages" in file.parts or file.is_relative_to(Path(__file__).parent):
        return False
    return any(file.is_relative_to(folder) for folder in folders)


def current_project() -> Project:
    """Returns the project of the working directory.

    Its root is the nearest folder, upwards, whose `pyproject.toml` has `[tool.stakesim]`.

    Raises:
        ProjectError: The file is no TOML, or the section has an unknown key, a value of the wrong type, or a folder
            that does not exist.
    """
    return _find_project(Path.cwd())


@functools.cache
def _find_project(folder: Path) -> Project:
    for root in (folder, *folder.parents):
        file = root / "pyproject.toml"
        section = read_section(file) if file.is_file() else None
        if section is not None:
            _check_types(file, section)
            return _build_project(root, file, section)
    return Project(folder)


def read_section(file: Path) -> dict[str, Any] | None:
    """Reads `[tool.stakesim]` of a `pyproject.toml`; returns None if it has none.

    Raises:
        ProjectError: The file is no TOML, or the section is no table.
    """
    try:
        return parse_section(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{file} can't be read: {str(error).rstrip('.')}.") from None


def parse_section(text: str) -> dict[str, Any] | None:
    """Reads `[tool.stakesim]` of a `pyproject.toml`'s text; returns None if it has none.

    Raises:
        ValueError: The text is no TOML, or the section is no table.
    """
    tool = tomllib.loads(text).get("tool", {})
    if not isinstance(tool, dict):
        raise ValueError(f"`tool` is {_describe_type(tool)}, not a table: write [tool.stakesim] with its keys below it")
    section = tool.get("stakesim")
    if section is not None and not isinstance(section, dict):
        raise ValueError(
            f"`stakesim` in [tool] is {_describe_type(section)}, not a table: write [tool.stakesim] with its keys "
            "below it"
        )
    return section


def _describe_type(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a time")


def _check_types(file: Path, section: Mapping[str, Any]) -> None:
    """Raises `ProjectError` for an unknown key or a value of the wrong type."""
    for key, value in section.items():
        if key not in _KEYS:
            raise ProjectError(f"{file}: [tool.stakesim] has no key {key}: use {', '.join(_KEYS)}.")
        items = value if isinstance(value, list) else ()
        if not isinstance(value, _KEYS[key]) or not all(isinstance(item, str) for item in items):
            expected = "text" if _KEYS[key] is str else "a list of folders"
            raise ProjectError(f"{file}: {key} in [tool.stakesim] must be {expected}.")


def _build_project(root: Path, file: Path, section: Mapping[str, Any]) -> Project:
    """Makes the section's paths absolute. Raises `ProjectError` for a folder that does not exist."""
    for folder in section.get("path", ()):
        if not (root / folder).is_dir():
            raise ProjectError(f"{file}: there is no folder {folder}, which `path` in [tool.stakesim] names.")
    scenarios = root / section.get("scenarios", "scenarios")
    for key in ("scenarios", "reviewed"):
        if key in section and not (root / section[key]).is_dir():
            raise ProjectError(f"{file}: there is no folder {section[key]}, which [tool.stakesim] names.")
    paths = {key: root / section[key] for key in ("contract", "artifact", "gas", "reviewed") if key in section}
    return Project(
        root=root,
        backend=section.get("backend"),
        contract=str(paths["contract"]) if "contract" in paths else None,
        commands=section.get("commands"),
        faults=section.get("faults"),
        path=tuple(root / folder for folder in section.get("path", ())),
        scenarios=scenarios if scenarios.is_dir() else None,
        artifact=paths.get("artifact"),
        gas=paths.get("gas"),
        reviewed=paths.get("reviewed"),
    )
