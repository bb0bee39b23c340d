"""The command line and the pytest plugin, as a user sees them."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from stakesim.commands import cli
from stakesim.paths import checkout
from stakesim.project import Project
from stakesim.runner import scenario_run  # noqa: F401 - what a pytest inside ours imports first, it takes away at its end

ROOT = checkout()

pytest_plugins = ["pytester"]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def stakesim(monkeypatch, capsys):
    """The command, run in this process from the project's folder."""

    def call(*args: str) -> Done:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["stakesim", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.mark.slow
def test_the_command_is_installed():
    command = Path(sys.executable).with_name("stakesim")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "replay" in done.stdout


@pytest.mark.slow
def test_run_plays_files_and_profiles_and_writes_a_report(stakesim, tmp_path, profile):
    runs = "1" if profile == "quick" else "3"
    done = stakesim(
        "run", "scenarios/no-show.yaml", "hostile", "--runs", runs, "-j", "2", "--out", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no-show" in done.stdout
    assert "random: hostile" in done.stdout
    assert "PASS" in done.stdout
    assert (tmp_path / "out" / "summary.md").read_text().startswith("# Pass")
    assert (tmp_path / "out" / "ledger.csv").read_text().startswith("run,scenario,seed,step,time,action,actor,outcome")


@pytest.mark.slow
def test_replay_shows_each_step_and_who_was_paid(stakesim):
    done = stakesim("replay", "scenarios/no-show.yaml")
    assert done.returncode == 0
    assert "host gets 0.46 ETH (460000000000000000 wei) (pushed)" in done.stdout


@pytest.mark.slow
def test_findings_end_with_exit_code_1(stakesim, tmp_path):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text().replace('"460000000000000000"', '"1"')
    (tmp_path / "no-show.yaml").write_text(text)
    done = stakesim("run", str(tmp_path / "no-show.yaml"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "host received another amount" in done.stdout
    assert (tmp_path / "out" / "failures" / "expectation-no-show.yaml").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("run", "clam"), "nor a profile (calm, flaky, hostile, volatile)"),
        (("run", "calm", "--engine", "ganache"), "choose py-evm, revm, anvil"),
        (("replay", "nowhere.yaml"), "nowhere.yaml: can't be read"),
        (("replay", "scenarios/no-show.yaml", "--engine", "rpc:http://127.0.0.1:9"), "127.0.0.1:9"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_exit_code_2(stakesim, args, said):
    done = stakesim(*args)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_broken_file_is_told_by_line_and_field(stakesim, tmp_path):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text().replace("seats: 4", "seats: four")
    (tmp_path / "no-show.yaml").write_text(text)
    done = stakesim("check", str(tmp_path / "no-show.yaml"))
    assert done.returncode == 2
    assert "no-show.yaml, line 11, actions[0].seats" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"60000000000000000"', '"60000000000000001"', "received.platform: expected 60000000000000001 wei, the model"),
        ("attended: [a1]", "attended: [a1], fails: TooEarly", "expected TooEarly, the model says ok"),
        ("seats: 4", "seats: 3", "expected ok, the model says NotEnoughSeats"),
    ],
)
def test_check_tells_what_the_rules_do_not_say(stakesim, tmp_path, old, new, said):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text()
    assert old in text
    (tmp_path / "no-show.yaml").write_text(text.replace(old, new))
    done = stakesim("check", str(tmp_path / "no-show.yaml"))
    assert done.returncode == 1
    assert said in done.stdout


def test_check_has_nothing_against_our_own(stakesim):
    done = stakesim("check", *map(str, sorted((ROOT / "scenarios").glob("*.yaml"))))
    assert done.returncode == 0
    assert "well-formed, and as the rules say" in done.stdout


def test_a_database_out_of_reach_is_said(stakesim, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    done = stakesim("run", "scenarios/no-show.yaml")
    assert done.returncode == 2
    assert "Check DATABASE_URL" in done.stderr


@pytest.mark.slow
def test_the_committed_artifact_is_checked(stakesim):
    assert stakesim("compile").returncode == 0


@pytest.mark.parametrize("write", [(), ("--write",)])
def test_nothing_is_written_into_an_installed_library(stakesim, monkeypatch, tmp_path, write):
    ours, copy = tmp_path / "artifacts.json", tmp_path / "Stake.json"
    monkeypatch.setattr("stakesim.paths.checkout", lambda: None)
    monkeypatch.setattr("stakesim.evm.compiler.PACKAGED_ARTIFACTS", ours)
    monkeypatch.setattr("stakesim.evm.compiler.build_packaged_artifacts", lambda: {"contracts": {}})
    monkeypatch.setattr("stakesim.evm.compiler.build_production_artifact", lambda: {"abi": []})
    monkeypatch.setattr("stakesim.project.current_project", lambda: Project(tmp_path))
    done = stakesim("compile", *write)
    assert done.returncode == (2 if write else 0)
    assert ("there is nothing to write" in done.stderr) == bool(write)
    monkeypatch.setattr("stakesim.project.current_project", lambda: Project(tmp_path, artifact=copy))
    assert stakesim("compile", *write).returncode == (0 if write else 1)
    assert copy.exists() == bool(write)
    assert not ours.exists()


@pytest.mark.slow
def test_a_folder_of_scenarios_that_is_not_there_is_told(pytester):
    pytester.makeini("[pytest]\nstakesim_scenarios = nope")
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        ["ERROR: stakesim_scenarios names nope, and there is no such folder in *: make or name one."]
    )


@pytest.mark.slow
@pytest.mark.parametrize("named", ["stories", "sub/../stories", "linked"])
def test_the_plugin_collects_both_endings_however_the_folder_is_named(pytester, named):
    pytester.makeini(f"[pytest]\nstakesim_scenarios = {named}")
    folder = pytester.mkdir("stories")
    pytester.mkdir("sub")
    (pytester.path / "linked").symlink_to(folder)
    for ending in ("yaml", "yml"):
        (folder / f"a-{ending}.{ending}").write_text("")
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--collect-only", "-q", "stories")
    done.stdout.fnmatch_lines(["*a-yaml*", "*a-yml*"])


@pytest.mark.slow
def test_the_plugin_collects_scenarios_and_gives_worlds(pytester):
    pytester.makeini("[pytest]\nstakesim_scenarios = scenarios")
    folder = pytester.mkdir("scenarios")
    good = (ROOT / "scenarios" / "no-show.yaml").read_text()
    (folder / "no-show.yaml").write_text(good)
    (folder / "wrong.yaml").write_text(good.replace("name: no-show", "name: wrong").replace('"60000', '"70000'))
    (folder / "notes.txt").write_text("not: a scenario")
    pytester.makepyfile(
        test_it="""
        from stakesim.scenario.scenario import load

        def test_a_file(run_scenario):
            assert run_scenario("scenarios/no-show.yaml").transactions == 5

        def test_engine_is_taken_back(stakesim_engine, stakesim_environment):
            before = stakesim_engine.now()
            stakesim_engine.mine()
            assert stakesim_engine.now() > before and stakesim_environment.engine is stakesim_engine
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--stakesim-engine", "py-evm")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*EXPECTATION is broken: the scenario's own expectations are met*"])
    result.stdout.no_fnmatch_line("*Traceback*")
