"""The commands that a project adds to `stakesim`: this checkout's, which need the backend, and other projects'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from app.db.embedded import _running
from stakesim.paths import checkout

pytestmark = pytest.mark.slow

ROOT = checkout()
assert ROOT is not None
EXTRA = ("fastapi", "httpx", "jwt", "prometheus_client", "pythonjsonlogger", "uvicorn")
"""Modules of the extra `api`, which a base install does not have."""
OURS = {"serve", "smoke", "doctor", "reconcile", "migrate", "openapi", "stop-database", "wallet"}
WITHOUT = """
import json, sys

class Missing:
    def find_spec(self, name, *more):
        if name in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from stakesim.commands import cli
sys.argv = ["stakesim", *{args}]
try:
    cli.main()
finally:
    if {tell}:
        print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def stakesim(
    *args: str, cwd: Path = ROOT, missing: tuple[str, ...] = (), tell: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own.

    Args:
        missing: Modules that are not installed.
        tell: Whether to write which modules are imported in the end to stderr, as JSON.
    """
    script = WITHOUT.format(missing=missing, args=list(args), tell=tell)
    settings = ("BLOCKCHAIN_RPC_URL", "DATABASE_URL", "PLATFORM_PRIVATE_KEY")
    bare = {name: value for name, value in os.environ.items() if name not in settings}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=bare | env, timeout=120, check=False)


def sentence(completed: subprocess.CompletedProcess[str]) -> str:
    """What a command says that ends with one sentence and exit code 2."""
    assert completed.returncode == 2, completed
    (line,) = completed.stderr.strip().splitlines()
    assert line.startswith("stakesim: ")
    return line


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a command `greet`, and a `check` that is not the library's."""
    (tmp_path / "pyproject.toml").write_text('[tool.stakesim]\ncommands = "own:cli"\n')
    (tmp_path / "own.py").write_text(
        "import typer\ncli = typer.Typer()\n"
        '@cli.command()\ndef greet() -> None:\n    "Say hello."\n    print("hello")\n'
        '@cli.command()\ndef check() -> None:\n    "Not this one."\n    print("not this one")\n'
    )
    return tmp_path


# ------------------------------------------------------------------------------------------------------- where from


def test_help_lists_the_projects_commands_and_imports_nothing_heavy() -> None:
    completed = stakesim("--help", tell=True)
    assert completed.returncode == 0
    assert all(f"\n  {name} " in completed.stdout for name in OURS | {"run", "deploy", "verify"})
    modules = json.loads(completed.stderr)
    assert "stakesim_adapter.commands" in modules
    assert not {"app", "sqlalchemy", "web3", "uvicorn"} & set(modules)


def test_library_command_imports_no_project_command() -> None:
    completed = stakesim("check", "scenarios/no-show.yaml", tell=True)
    assert completed.returncode == 0
    assert not {"stakesim_adapter", "stakesim_adapter.commands", "app"} & set(json.loads(completed.stderr))


def test_a_scenario_on_revm_imports_no_settings_no_server_and_no_other_engine() -> None:
    completed = stakesim("run", "scenarios/no-show.yaml", "--engine", "revm", tell=True)
    assert completed.returncode == 0
    modules = set(json.loads(completed.stderr.splitlines()[-1]))
    assert "app.bootstrap.services" in modules
    others = {"app.core.config", "pydantic_settings", "fastapi", "aiohttp", "eth.vm", "eth_tester", "py_ecc"}
    assert not others & modules


def test_commands_are_found_from_any_folder_of_the_project(project: Path) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    assert stakesim("greet", cwd=below).stdout == "hello\n"
    assert "Say hello." in stakesim("--help", cwd=below).stdout


def test_the_librarys_commands_have_priority(project: Path) -> None:
    completed = stakesim("check", str(ROOT / "scenarios" / "no-show.yaml"), cwd=project)
    assert "well-formed" in completed.stdout
    assert "Not this one" not in stakesim("--help", cwd=project).stdout


def test_project_with_one_command(project: Path) -> None:
    own = (project / "own.py").read_text()
    (project / "own.py").write_text(own[: own.rindex("@cli")])
    assert stakesim("greet", cwd=project).stdout == "hello\n"


def test_without_a_project_only_library_commands_exist(tmp_path: Path) -> None:
    completed = stakesim("serve", cwd=tmp_path)
    assert completed.returncode == 2
    assert "No such command 'serve'" in completed.stderr
    assert stakesim("--help", cwd=tmp_path).returncode == 0


def test_help_works_and_names_commands_that_can_not_be_imported(project: Path) -> None:
    (project / "own.py").unlink()
    message = "[tool.stakesim] names own:cli, and there is no module own"
    assert message in sentence(stakesim("greet", cwd=project))
    completed = stakesim("--help", cwd=project)
    assert completed.returncode == 0
    assert message in completed.stderr
    assert "replay" in completed.stdout


def test_help_works_if_the_commands_lack_a_package(project: Path) -> None:
    (project / "own.py").write_text("from stakesim.errors import NotInstalled\nraise NotInstalled('It', 'x', 'gate')\n")
    completed = stakesim("--help", cwd=project)
    assert completed.returncode == 0
    assert "stakesim: It needs x, which is not installed" in completed.stderr
    assert "replay" in completed.stdout


# ----------------------------------------------------------------------------------------------- what is not installed


@pytest.mark.parametrize(
    ("args", "module"),
    [
        (["serve"], "fastapi"),
        (["serve"], "uvicorn"),
        (["smoke"], "pydantic_settings"),
        (["smoke", "--deploy"], "uvicorn"),
        (["doctor"], "pydantic_settings"),
        (["reconcile"], "psycopg"),
        (["wallet", "new"], "eth_account"),
        (["stop-database"], "psycopg"),
    ],
)
def test_every_command_says_what_is_not_installed_and_how_to_install_it(
    args: list[str], module: str, tmp_path: Path
) -> None:
    options = [] if args == ["stop-database"] else ["--env-file", str(tmp_path / "env")]
    message = sentence(stakesim(*args, *options, missing=(module,)))
    assert f"The backend needs {module}, which is not installed" in message
    assert "`make serve`" in message
    assert "`pip install -e '.[api]'`" in message


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["serve"], 2),
        (["smoke"], 2),
        (["smoke", "--deploy"], 2),
        (["doctor"], 1),
        (["reconcile"], 2),
        (["wallet", "new"], 0),
        (["stop-database"], 0),
    ],
)
def test_base_install_has_no_traceback(args: list[str], code: int, tmp_path: Path) -> None:
    """Without the extra, a command works or says what it needs."""
    options = [] if args == ["stop-database"] else ["--env-file", str(tmp_path / "env")]
    completed = stakesim(*args, *options, missing=EXTRA, STAKESIM_HOME=str(tmp_path / "home"))
    assert completed.returncode == code, completed
    assert "Traceback" not in completed.stderr
    if code == 2:
        sentence(completed)


@pytest.mark.in_turn
def test_driver_api_says_what_is_not_installed(sampled: Callable[[Iterable[str]], list[str]]) -> None:
    modules = sampled(["fastapi", "jwt", "prometheus_client"])
    for missing in (EXTRA, *((module,) for module in modules)):
        message = sentence(stakesim("run", "scenarios/no-show.yaml", "--driver", "api", missing=missing))
        assert "which is not installed" in message
        assert "`pip install -e '.[api]'`" in message
        assert any(module in message for module in missing)


def test_faults_say_what_is_not_installed() -> None:
    message = sentence(stakesim("faults", "--only", "network:0", missing=("sqlalchemy",)))
    assert "needs sqlalchemy, which is not installed" in message
    assert "`pip install -e '.[api]'`" in message


def test_faults_without_a_campaign_say_what_to_do(tmp_path: Path) -> None:
    message = sentence(stakesim("faults", cwd=tmp_path))
    assert "[tool.stakesim] faults =" in message


@pytest.mark.in_turn
def test_errors_of_the_backend_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("")
    message = sentence(stakesim("reconcile", "--env-file", str(tmp_path / "env")))
    assert "BLOCKCHAIN_RPC_URL is not set" in message
    message = sentence(stakesim("faults", "--only", "network:0", DATABASE_URL="postgresql://nobody@127.0.0.1:9/none"))
    assert "The database at 127.0.0.1:9/none is unavailable" in message


# ------------------------------------------------------------------------------------------------------ stop-database


@pytest.mark.parametrize("folder", ["backend/app", "scenarios"])
def test_stop_database_stops_the_server_that_the_backend_started(tmp_path: Path, folder: str) -> None:
    home = {"STAKESIM_HOME": str(tmp_path / "home")}
    script = "from app.db.embedded import *; start_embedded(default_data_dir())"
    started = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "tests", env=os.environ | home, check=False)
    assert started.returncode == 0
    data = tmp_path / "home" / "postgres"
    assert _running(data)
    completed = stakesim("stop-database", cwd=ROOT / folder, **home)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    assert not _running(data)
