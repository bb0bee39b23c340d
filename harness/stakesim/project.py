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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stakesim.errors import StakesimError
from stakesim.paths import shipped

_KEYS = {
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
            ProjectError: There is no such module or attribute.
        """
        for folder in (self.root, *self.path):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        module, colon, attribute = name.partition(":")
        if not colon:
            raise ProjectError(f"{name!r} in [tool.stakesim] is no module:attribute, as my_adapter:open_backend is.")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as missing:
            if missing.name is not None and (module == missing.name or module.startswith(f"{missing.name}.")):
                raise ProjectError(
                    f"[tool.stakesim] names {name}, and there is no module {module}: add its folder to `path`."
                ) from None
            raise ProjectError(
                f"{module} needs {missing.name}, which is not installed: install what the backend needs "
                "(in the checkout of stakesim: `make serve`, or `pip install -e '.[backend]'`)."
            ) from None
        except AttributeError:
            raise ProjectError(f"[tool.stakesim] names {name}, and {module} has no {attribute}.") from None


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
        ProjectError: The file is no TOML.
    """
    try:
        section: dict[str, Any] | None = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("stakesim")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file} can't be read: {error}.") from None
    return section


def _read(root: Path, file: Path, section: Mapping[str, Any]) -> Project:
    for key, value in section.items():
        if key not in _KEYS:
            raise ProjectError(f"{file}: [tool.stakesim] has no key {key}: use {', '.join(_KEYS)}.")
        if not isinstance(value, _KEYS[key]):
            raise ProjectError(f"{file}: {key} in [tool.stakesim] must be a {_KEYS[key].__name__}.")

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
        path=tuple(root / str(folder) for folder in section.get("path", ())),
        scenarios=scenarios if scenarios.is_dir() else None,
        artifact=path("artifact"),
        gas=path("gas"),
    )
