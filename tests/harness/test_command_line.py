"""The command line and the pytest plugin."""

import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from stakesim.paths import checkout
from stakesim.project import Project
from stakesim.runner import scenario_run  # noqa: F401 - what a pytest inside ours imports first, it takes away at its end

ROOT = checkout()

pytest_plugins = ["pytester"]


@pytest.fixture
def stakesim(run_stakesim):
    """The command, run in this process from the project's folder."""
    return partial(run_stakesim, cwd=ROOT)


@pytest.mark.slow
def test_the_command_is_installed():
    command = Path(sys.executable).with_name("stakesim")
    finished = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "replay" in finished.stdout


def test_the_handler_of_sigterm_is_restored(stakesim):
    handler = signal.getsignal(signal.SIGTERM)
    stakesim("check", "scenarios/no-show.yaml")
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.slow
def test_run_runs_files_and_profiles_and_writes_a_report(stakesim, tmp_path, profile):
    runs = "1" if profile == "quick" else "3"
    finished = stakesim(
        "run", "scenarios/no-show.yaml", "hostile", "--runs", runs, "-j", "2", "--out", str(tmp_path / "out")
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "no-show" in finished.stdout
    assert "random: hostile" in finished.stdout
    assert "PASS" in finished.stdout
    assert (tmp_path / "out" / "summary.md").read_text().startswith("# Pass")
    assert "<strong>PASS</strong>" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "ledger.csv").read_text().startswith("run,scenario,seed,step,time,action,actor,outcome")


@pytest.mark.slow
def test_run_goes_on_for_a_time_and_says_how_many_it_drew(stakesim):
    finished = stakesim("run", "calm", "--driver", "contract", "--for", "1s")
    assert re.match(r"\d+ scenarios drawn in \d+ s\n", finished.stdout)
    assert stakesim("run", "calm", "--for", "soon").returncode == 2


@pytest.mark.slow
def test_replay_shows_each_step_and_payout(stakesim):
    finished = stakesim("replay", "scenarios/no-show.yaml")
    assert finished.returncode == 0
    assert "host gets 0.46 ETH (460000000000000000 wei) (pushed)" in finished.stdout


@pytest.mark.slow
def test_findings_end_with_exit_code_1(stakesim, tmp_path):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text().replace('"460000000000000000"', '"1"')
    (tmp_path / "no-show.yaml").write_text(text)
    finished = stakesim("run", str(tmp_path / "no-show.yaml"), "--out", str(tmp_path / "out"))
    assert finished.returncode == 1
    assert "host received another amount" in finished.stdout
    assert (tmp_path / "out" / "failures" / "expectation-no-show.yaml").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "clam"), "no scenario, profile or population 'clam'; did you mean 'calm'?"),
        (("run", "calm", "--engine", "ganache"), "choose py-evm, revm, anvil"),
        (("replay", "nowhere.yaml"), "nowhere.yaml: can't be read"),
        (("replay", "scenarios/no-show.yaml", "--engine", "rpc:http://127.0.0.1:9"), "127.0.0.1:9"),
    ],
)
def test_an_error_of_the_user_is_one_sentence_and_exit_code_2(stakesim, args, message):
    finished = stakesim(*args)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_an_invalid_file_is_reported_with_line_and_field(stakesim, tmp_path):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text().replace("seats: 4", "seats: four")
    (tmp_path / "no-show.yaml").write_text(text)
    finished = stakesim("check", str(tmp_path / "no-show.yaml"))
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"{tmp_path}/no-show.yaml:11: actions[0].seats: ")


@pytest.mark.parametrize("command", [("check",), ("run", "--driver", "contract")])
def test_the_problems_of_all_files_are_told(stakesim, tmp_path, command):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text()
    for name in ("one", "two"):
        (tmp_path / f"{name}.yml").write_text(text.replace("seats: 4", "seats: 4e1").replace("no-show", name))
    finished = stakesim(*command, str(tmp_path / "one.yml"), str(tmp_path / "two.yml"), "no-shwo")
    assert finished.returncode == 2
    places = {line.partition(": ")[0] for line in finished.stderr.splitlines()}
    assert places >= {f"{tmp_path}/one.yml:11", f"{tmp_path}/two.yml:11"}
    assert "there is no scenario, profile or population 'no-shwo'; did you mean 'no-show'?" in finished.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"60000000000000000"', '"60000000000000001"', "received.platform: expected 60000000000000001 wei, the model"),
        ("attended: [a1]", "attended: [a1], fails: TooEarly", "expected TooEarly, the model says ok"),
        ("seats: 4", "seats: 3", "expected ok, the model says NotEnoughSeats"),
    ],
)
def test_check_reports_expectations_against_the_rules(stakesim, tmp_path, old, new, message):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text()
    assert old in text
    (tmp_path / "no-show.yaml").write_text(text.replace(old, new))
    finished = stakesim("check", str(tmp_path / "no-show.yaml"))
    assert finished.returncode == 1
    assert message in finished.stdout


@pytest.mark.slow
def test_check_accepts_all_files_of_a_folder(stakesim):
    finished = stakesim("check", "scenarios")
    assert finished.returncode == 0
    assert re.search(r"^[6-9]\d files: well-formed, and as the rules say$", finished.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("profiles/calm.yaml", "two_runs", "too_runs", ":3: too_runs: is no field here; did you mean 'two_runs'?"),
        ("populations/conference.yaml", "seats:", "seets:", ":5: seets: is no field here; did you mean 'seats'?"),
        ("sweeps/stake-size.yaml", "conference", "conferense", "there is no population 'conferense'; did you mean"),
        ("sweeps/stake-size.yaml", "stake_bps", "steak_bps", "there is no term 'steak_bps'; did you mean 'stake_bps'?"),
        ("regressions/faults/row-30.yaml", "do:", "doo:", "doo: is no field here; did you mean 'do'?"),
    ],
)
def test_check_knows_each_kind_of_file(stakesim, tmp_path, file, old, new, message):
    text = (ROOT / "scenarios" / file).read_text()
    assert old in text
    copy = tmp_path / Path(file).name
    copy.write_text(text)
    assert stakesim("check", str(copy)).returncode == 0
    copy.write_text(text.replace(old, new))
    finished = stakesim("check", str(tmp_path))
    assert finished.returncode == 2
    assert message in finished.stderr
    assert finished.stderr.startswith(str(copy))


def test_a_disagreement_has_its_line(stakesim, tmp_path):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text().replace("b: 0", "b: 1")
    (tmp_path / "no-show.yaml").write_text(text)
    finished = stakesim("check", str(tmp_path / "no-show.yaml"))
    line = text.splitlines().index("  b: 1") + 1
    assert f"no-show.yaml:{line}: received.b: expected 1 wei, the model says 0\n" in finished.stdout


@pytest.mark.parametrize("item", ["scenarios/profiles/calm.yaml", "calm", "scenarios/backend"])
def test_run_takes_names_files_and_folders(stakesim, item):
    finished = stakesim("run", item, "--driver", "contract", "--runs", "1")
    assert re.search(r"^(random: calm|answers-lost) ", finished.stdout, re.MULTILINE), finished.stderr


def test_an_unreachable_database_is_reported(stakesim, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    finished = stakesim("run", "scenarios/no-show.yaml")
    assert finished.returncode == 2
    assert "Check DATABASE_URL" in finished.stderr


@pytest.mark.in_turn
@pytest.mark.slow
def test_the_committed_artifacts_match_the_sources(stakesim):
    assert stakesim("compile").returncode == 0


@pytest.mark.parametrize("write", [(), ("--write",)])
def test_nothing_is_written_into_an_installed_library(stakesim, monkeypatch, tmp_path, write):
    ours, copy = tmp_path / "artifacts.json", tmp_path / "Stake.json"
    monkeypatch.setattr("stakesim.paths.checkout", lambda: None)
    monkeypatch.setattr("stakesim.evm.compiler.PACKAGED_ARTIFACTS", ours)
    monkeypatch.setattr("stakesim.evm.compiler.build_packaged_artifacts", lambda: {"contracts": {}})
    monkeypatch.setattr("stakesim.evm.compiler.build_production_artifact", lambda: {"abi": []})
    monkeypatch.setattr("stakesim.project.current_project", lambda: Project(tmp_path))
    finished = stakesim("compile", *write)
    assert finished.returncode == (2 if write else 0)
    assert ("there is nothing to write" in finished.stderr) == bool(write)
    monkeypatch.setattr("stakesim.project.current_project", lambda: Project(tmp_path, artifact=copy))
    assert stakesim("compile", *write).returncode == (0 if write else 1)
    assert copy.exists() == bool(write)
    assert not ours.exists()


@pytest.mark.slow
def test_a_missing_folder_of_scenarios_is_reported(pytester):
    pytester.makeini("[pytest]\nstakesim_scenarios = nope")
    finished = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert finished.ret == pytest.ExitCode.USAGE_ERROR
    finished.stderr.fnmatch_lines(
        ["ERROR: stakesim_scenarios names nope, and there is no such folder in *: create it, or name another."]
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
    finished = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--collect-only", "-q", "stories")
    finished.stdout.fnmatch_lines(["*a-yaml*", "*a-yml*"])


@pytest.mark.slow
def test_the_plugin_collects_scenarios_and_provides_fixtures(pytester):
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

        def test_engine_is_reverted(stakesim_engine, stakesim_environment):
            before = stakesim_engine.now()
            stakesim_engine.mine()
            assert stakesim_engine.now() > before and stakesim_environment.engine is stakesim_engine
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--stakesim-engine", "py-evm")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*EXPECTATION is broken: the scenario's own expectations are met*"])
    result.stdout.no_fnmatch_line("*Traceback*")
