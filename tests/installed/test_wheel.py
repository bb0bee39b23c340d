"""The wheel in an empty folder, and in a project with its own `app`, `tests`, `benchmarks` and `scenarios`."""

import shutil
import zipfile

import pytest
from stakesim.paths import checkout

pytestmark = pytest.mark.slow
ROOT = checkout()


@pytest.fixture
def project(tmp_path):
    """A project with folders of the same names as the checkout's."""
    for name in ("app", "tests", "benchmarks", "harness"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this one is not stakesim's')\n")
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "load.yaml").write_text("users: 500\nramp-up: 30s\n")
    return tmp_path


def test_stakesim_is_the_only_top_level_name(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"stakesim"}
    assert "stakesim/py.typed" in names
    assert not [name for name in names if "node_modules" in name or name.endswith((".pyc", ".env"))]


def test_no_path_is_in_the_checkout(installed, tmp_path):
    """Neither the package nor the files that ship with it."""
    code = (
        "import stakesim, stakesim.paths as p, stakesim.evm.compiler as c;"
        "print(stakesim.__file__, p.checkout(), p.shipped('scenarios'), c.CONTRACTS, p.state_dir())"
    )
    process = installed(tmp_path, "python", "-c", code)
    assert process.returncode == 0, process.stderr
    assert str(ROOT) not in process.stdout
    assert " None " in process.stdout
    assert process.stdout.strip().endswith(str(installed.state))


def test_the_first_run_needs_no_compiler(installed, tmp_path):
    shutil.rmtree(installed.state / "artifacts", ignore_errors=True)
    process = installed(tmp_path, "run", "--runs", "2", PATH="/nonexistent")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "no-show" in process.stdout
    assert "random: hostile" in process.stdout
    assert "PASS" in process.stdout
    assert list(tmp_path.iterdir()) == []
    assert not (installed.state / "artifacts").exists()


def test_the_starter_runs_in_a_project_with_the_same_names(installed, project):
    process = installed(project, "init")
    assert process.returncode == 0, process.stderr
    ran = installed(project, "run")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "one-no-show" in ran.stdout
    assert "bad-price-feed" not in ran.stdout  # the project's scenarios, now that it has some
    assert installed(project, "check", "stakesim-scenarios/one-no-show.yaml").returncode == 0
    again = installed(project, "init")
    assert again.returncode == 2
    assert (
        again.stderr == "stakesim: pyproject.toml has a section [tool.stakesim] already: there is nothing to start.\n"
    )


def test_the_starters_adapter_runs_and_has_findings(installed, project):
    installed(project, "init", "--backend")
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("# backend", "backend"))
    ran = installed(project, "run", "stakesim-scenarios/one-no-show.yaml", "--keep")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "run 1: the model says" in ran.stdout
    assert "driver services" in ran.stdout
    assert [file.parent.name for file in project.rglob("inv-*.yaml")] == ["regressions"]


def test_the_python_example_of_the_readme(installed, tmp_path):
    code = (
        "from stakesim import Scenario, run\n"
        "result = run('hostile', runs=3, seed=4)\n"
        "assert isinstance(result.results[0].scenario, Scenario)\n"
        "print(result.summary(), result.ledger.wei_in.sum())\n"
    )
    process = installed(tmp_path, "python", "-c", code)
    assert process.returncode == 0, process.stderr
    assert "3 scenarios" in process.stdout


def test_another_contract_is_compiled(installed, tmp_path):
    shutil.copy(ROOT / "contracts" / "test" / "SoundEventStake.sol", tmp_path / "Stake.sol")
    process = installed(tmp_path, "run", "calm", "--runs", "4", "--contract", "Stake.sol:SoundEventStake")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "not supported by this contract" in process.stdout
    assert (installed.state / "artifacts").is_dir()
    assert [file.name for file in tmp_path.iterdir()] == ["Stake.sol"]


def test_commands_of_the_backend_are_missing(installed, tmp_path):
    """They exist only in a project that names a backend."""
    for command in ("serve", "doctor", "reconcile"):
        process = installed(tmp_path, command)
        assert process.returncode == 2
        assert f"No such command '{command}'" in process.stderr
        assert "Traceback" not in process.stderr
