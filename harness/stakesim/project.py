"""The project that the user works in: its `[tool.stakesim]` section in `pyproject.toml`.

[tool.stakesim]
backend = "stakesim_adapter:open_backend"   # the system under test; without it the contract alone is driven
contract = "contracts/Stake.sol:Stake"      # what is deployed; the packaged EventStake if left out
path = ["backend"]                          # folders to import `backend` from, beside the project's own
scenarios = "scenarios"                     # the folder of the project's scenarios
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

_KEYS: dict[str, type[Any]] = {
    "backend": str,
    "contract": str,
    "commands": str,
    "faults": str,
    "path": list,
    "scenarios": str,
    "artifact": str,
    "gas": str,
}


class ProjectError(StakesimError):
    """What is wrong with `[tool.stakesim]`, or with what it names."""


@dataclass(frozen=True)
class Project:
    """What a project says of itself. Paths are absolute.

    Attributes:
        root: Folder of its `pyproject.toml`; the working directory where none has the section.
        backend: `module:function` that opens the system under test.
        contract: What is deployed instead of the packaged `EventStake`, as `--contract` takes it.
        commands: `module:app` of a typer application whose commands `stakesim` offers too.
        faults: `module:object` that plays the episodes of `stakesim faults`.
        path: Folders that go on `sys.path` before any of these are imported.
        scenarios: Folder of its scenarios, where there is one.
        artifact: Where `stakesim compile --write` writes the production artifact.
        gas: The committed gas table.
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

    @property
    def scenario_folders(self) -> tuple[Path, ...]:
        """Where scenarios, profiles and populations are looked for by name: the project's own first."""
        own = () if self.scenarios is None else (self.scenarios,)
        return tuple(dict.fromkeys((*own, shipped("scenarios"))))

    @property
    def failures(self) -> Path:
        """Where shrunk failures go if nothing else is said."""
        return self.root / "reports" / "failures" if self.scenarios is None else self.scenarios / "regressions"

    def load(self, name: str) -> Any:
        """The object that `module:attribute` names.

        Raises:
            ProjectError: There is no such module or attribute, or the module can't be imported.
        """
        module, colon, attribute = name.partition(":")
        if not colon or not all(part.isidentifier() for part in (*module.split("."), attribute)):
            raise ProjectError(f"{name!r} in [tool.stakesim] is no module:attribute, as my_adapter:open_backend is.")
        for folder in (self.root, *self.path):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        try:
            imported = importlib.import_module(module)
        except StakesimError:
            raise
        except ModuleNotFoundError as missing:
            if missing.name is not None and (module == missing.name or module.startswith(f"{missing.name}.")):
                raise ProjectError(
                    f"[tool.stakesim] names {name}, and there is no module {module}: add its folder to `path`."
                ) from None
            what = f"{missing.name}, which is not installed" if missing.name else f"what is not installed ({missing})"
            own = "" if checkout() != self.root else " (`make serve`, or `pip install -e '.[api]'`)"
            raise ProjectError(f"{module} needs {what}: install what the backend needs{own}.") from None
        except (Exception, SystemExit) as error:  # whatever a module does when it is imported
            raise ProjectError(self._not_imported(module, error)) from error
        try:
            return getattr(imported, attribute)
        except AttributeError:
            raise ProjectError(f"[tool.stakesim] names {name}, and {module} has no {attribute}.") from None

    def _not_imported(self, module: str, error: BaseException) -> str:
        """The sentence for an exception, with the place in the project that it came from."""
        said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        return f"{module} can't be imported ({what}): mend it at {self._place(error)}."

    def _place(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}:{error.lineno}"
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        folders = (self.root, *self.path)
        own = [place for place in places if _inside(Path(place[0]), folders)]
        file, line = (own or places)[-1]
        return f"{file}:{line}"


def _inside(file: Path, folders: Iterable[Path]) -> bool:
    """Whether the file is the project's own: of these folders, and no installed package, nor this library."""
    if "site-packages" in file.parts or file.is_relative_to(Path(__file__).parent):
        return False
    return any(file.is_relative_to(folder) for folder in folders)


def current_project() -> Project:
    """The project of the working directory: the nearest `pyproject.toml` with `[tool.stakesim]`, upwards.

    Raises:
        ProjectError: The section has a key that means nothing, or of the wrong type; the file is no TOML.
    """
    return _project_of(Path.cwd())


@functools.cache
def _project_of(folder: Path) -> Project:
    for root in (folder, *folder.parents):
        file = root / "pyproject.toml"
        section = read_section(file) if file.is_file() else None
        if section is not None:
            return _read(root, file, section)
    return Project(folder)


def read_section(file: Path) -> dict[str, Any] | None:
    """`[tool.stakesim]` of a `pyproject.toml`; None where it has none.

    Raises:
        ProjectError: The file is no TOML, or the section is no table.
    """
    try:
        return section_in(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{file} can't be read: {str(error).rstrip('.')}.") from None


def section_in(text: str) -> dict[str, Any] | None:
    """The same of a file's text.

    Raises:
        ValueError: The text is no TOML, or the section is no table.
    """
    tool = tomllib.loads(text).get("tool", {})
    if not isinstance(tool, dict):
        raise ValueError(f"`tool` is {_kind(tool)}, not a table: write [tool.stakesim] with its keys below it")
    section = tool.get("stakesim")
    if section is not None and not isinstance(section, dict):
        raise ValueError(
            f"`stakesim` in [tool] is {_kind(section)}, not a table: write [tool.stakesim] with its keys below it"
        )
    return section


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "a time")


def _read(root: Path, file: Path, section: Mapping[str, Any]) -> Project:
    for key, value in section.items():
        if key not in _KEYS:
            raise ProjectError(f"{file}: [tool.stakesim] has no key {key}: use {', '.join(_KEYS)}.")
        items = value if isinstance(value, list) else ()
        if not isinstance(value, _KEYS[key]) or not all(isinstance(item, str) for item in items):
            must = "text" if _KEYS[key] is str else "a list of folders"
            raise ProjectError(f"{file}: {key} in [tool.stakesim] must be {must}.")
    for folder in section.get("path", ()):
        if not (root / folder).is_dir():
            raise ProjectError(f"{file}: there is no folder {folder}, which `path` in [tool.stakesim] names.")

    def path(key: str) -> Path | None:
        return root / section[key] if key in section else None

    scenarios = path("scenarios") or root / "scenarios"
    if "scenarios" in section and not scenarios.is_dir():
        raise ProjectError(f"{file}: there is no folder {section['scenarios']}, which [tool.stakesim] names.")
    contract = section.get("contract")
    return Project(
        root=root,
        backend=section.get("backend"),
        contract=None if contract is None else str(root / contract),
        commands=section.get("commands"),
        faults=section.get("faults"),
        path=tuple(root / folder for folder in section.get("path", ())),
        scenarios=scenarios if scenarios.is_dir() else None,
        artifact=path("artifact"),
        gas=path("gas"),
    )
