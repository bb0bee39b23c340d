"""Fixtures that install the library as users do: as a wheel, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from stakesim.evm.compiler import compiler_version
from stakesim.paths import checkout

ROOT = checkout()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout, built without network access."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", folder, ROOT], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


@dataclass
class Installed:
    """A Python environment with the wheel.

    Attributes:
        python: Its interpreter.
        home: Home directory of the commands that run in it.
    """

    python: Path
    home: Path

    def __call__(self, folder: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs `stakesim`, or another program of the environment (`python`, `pytest`), in this folder."""
        program, *rest = args if args[0] in ("python", "pytest") else ("stakesim", *args)
        inherited = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
        return subprocess.run(
            [self.python.with_name(program), *rest],
            cwd=folder,
            env=inherited | {"HOME": str(self.home)} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    @property
    def state(self) -> Path:
        return self.home / ".local" / "share" / "stakesim"


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Installed:
    """The wheel in a new environment. Its requirements come from the environment of these tests.

    `test_packaging.py` holds that all that is imported is required.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True, text=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")}))
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (python.with_name("pytest")).write_text(f"#!{python}\nimport sys, pytest\nsys.exit(pytest.console_main())\n")
    python.with_name("pytest").chmod(0o755)
    home = folder / "home"
    environment = Installed(python, home)
    compiler = environment.state / f"solc-{compiler_version()}"
    compiler.mkdir(parents=True)
    (compiler / "node_modules").symlink_to(ROOT / "contracts" / "node_modules")  # what `npm ci` would put there
    return environment
