"""The pytest plugin as people use it: paths, failures, usage errors, and pytest's own tools."""

import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from stakesim.paths import checkout
from stakesim.runner import scenario_run  # noqa: F401 - what a pytest inside ours imports first, it takes away at its end

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow
NO_SHOW = (checkout() / "scenarios" / "no-show.yaml").read_text()
WRONG = NO_SHOW.replace('"460000000000000000"', '"1"').replace("name: no-show", "name: wrong")
LAST = WRONG.splitlines().index("  - {do: withdraw_fees}") + 1
"""Line of the action after which the expectation of WRONG is not met."""
ENGINE = ("--stakesim-driver", "contract", "--stakesim-engine", "py-evm")  # revm can't be imported twice in a process
OPTIONS = ("-p", "no:cacheprovider", *ENGINE)


@pytest.fixture
def project(pytester):
    """A project with scenarios beside a test, elsewhere, and one that fails; it has nothing of this repository."""
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nstakesim_scenarios = ["stories"]\n')
    for folder in ("stories", "tests/unit", "scenarios"):
        (pytester.path / folder).mkdir(parents=True)
    (pytester.path / "stories" / "wrong.yaml").write_text(WRONG)
    (pytester.path / "stories" / "bad.yaml").write_text(NO_SHOW.replace("name: no-show", "nane: bad"))
    (pytester.path / "tests" / "unit" / "no-show.yaml").write_text(NO_SHOW)
    (pytester.path / "scenarios" / "load.yaml").write_text("users: 500\n")
    return pytester


def write_tests(project, *calls: str) -> None:
    tests = "".join(f"def test_{n}(run_scenario):\n    {call}\n\n" for n, call in enumerate(calls))
    (project.path / "tests" / "unit" / "test_it.py").write_text(tests)


def test_failures_begin_with_file_and_line_and_have_no_frames_of_the_library(project):
    write_tests(project, "run_scenario('../../stories/wrong.yaml')", "run_scenario('nowhere.yaml')")
    result = project.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "stories/bad.yaml:2: nane: is no field here; did you mean 'name'?",
            f"stories/wrong.yaml:{LAST}: EXPECTATION is broken: the scenario's own expectations are met",
            f"E       AssertionError: stories/wrong.yaml:{LAST}: EXPECTATION is broken: *",
            "E       stakesim.schema.errors.InputError: nowhere.yaml: can't be read: No such file or directory; *",
            f"FAILED stories/wrong.yaml::wrong - stories/wrong.yaml:{LAST}: *",
        ]
    )
    for frame in ("pytest_plugin.py:", "scenario.py:", "text_file.py:", "Traceback"):
        result.stdout.no_fnmatch_line(f"*{frame}*")


@pytest.mark.parametrize("at", [".", "tests/unit"])
def test_paths_count_from_the_file_that_names_them(project, monkeypatch, at):
    """They also count from pytest's root, and a scenario's name is enough."""
    shutil.copy(project.path / "tests" / "unit" / "no-show.yaml", project.path / "stories")
    names = ("no-show.yaml", "../unit/no-show.yaml", "stories/no-show.yaml", "no-show")
    write_tests(project, *(f"assert run_scenario({name!r}).steps == 5" for name in names))
    monkeypatch.chdir(project.path / at)
    project.runpytest_inprocess(*OPTIONS, f"{project.path}/tests").assert_outcomes(passed=4)


def test_the_setting_counts_from_the_file_that_has_it(project, monkeypatch):
    (project.path / "stories" / "pytest.ini").write_text("[pytest]\nstakesim_scenarios = ../tests/unit\n")
    monkeypatch.chdir(project.path / "scenarios")
    arguments = ("-c", "../stories/pytest.ini", "--rootdir", "..", "../tests/unit")
    project.runpytest_inprocess(*OPTIONS, *arguments).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("engine", "revn", "Unknown engine 'revn': choose py-evm, revm, anvil"),
        ("contract", "nowhere.sol:Stake", "there is no file nowhere.sol: name another."),
        ("driver", "services", "there is no services, as the project names no backend."),
    ],
)
def test_a_wrong_option_is_a_usage_error(project, option, value, message):
    result = project.runpytest_inprocess("-p", "no:cacheprovider", f"--stakesim-{option}", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --stakesim-{option}: {message}*"])


def test_an_environment_that_can_not_be_opened_is_told_and_other_tests_run(project, monkeypatch):
    from stakesim.runner import environment

    tried = []
    opens = environment.open_engine
    monkeypatch.setattr(environment, "open_engine", lambda name: tried.append(name) or opens(name))
    write_tests(project, "run_scenario('no-show.yaml')", "run_scenario('no-show.yaml')")
    project.makepyfile("def test_other():\n    pass\n\ndef test_engine(stakesim_engine):\n    pass")
    options = ("-p", "no:cacheprovider", "--stakesim-engine", "rpc:http://127.0.0.1:9")
    result = project.runpytest_inprocess(*options, "--deselect", "stories/bad.yaml")
    result.assert_outcomes(passed=1, failed=3, errors=1, deselected=1)
    result.stdout.fnmatch_lines(["No Ethereum node answers at http://127.0.0.1:9: start it, or correct the URL."])
    result.stdout.no_fnmatch_line("*remote.py:*")
    assert tried == ["rpc:http://127.0.0.1:9"]


def test_a_folder_of_yaml_files_that_nobody_named_is_left_alone(project):
    (project.path / "stories" / "bad.yaml").unlink()
    collected = project.runpytest_inprocess("-p", "no:cacheprovider", "--collect-only", "-q", "stories", "scenarios")
    collected.stdout.fnmatch_lines(["stories/wrong.yaml::wrong", "*1 test collected*"])


def test_items_have_a_line_for_test_explorers(project):
    items, _ = project.inline_genitems("stories")
    assert {item.location for item in items} == {
        ("stories/bad.yaml", 0, "scenario bad"),
        ("stories/wrong.yaml", 0, "scenario wrong"),
    }


@pytest.mark.in_turn
def test_with_xdist_last_failed_and_junit(project):
    (project.path / "stories" / "no-show.yaml").write_text(NO_SHOW)
    project.runpytest_inprocess(*ENGINE, "stories").assert_outcomes(passed=1, failed=2)
    report = project.path / "junit.xml"
    again = project.runpytest_subprocess(*ENGINE, "--lf", "-n", "1", f"--junitxml={report}")
    again.assert_outcomes(failed=2)
    failures = [failure.get("message", "") for failure in ElementTree.parse(report).getroot().iter("failure")]
    places = sorted(message.partition(": ")[0] for message in failures)
    assert places == ["stories/bad.yaml:2", f"stories/wrong.yaml:{LAST}"]


def test_w3_is_a_chain_that_each_test_finds_as_it_was(pytester):
    pytester.makepyfile(
        """
        def balance_after_a_payment(w3):
            a, b = w3.eth.accounts[:2]
            w3.eth.send_transaction({"from": a, "to": b, "value": 10**18})
            return w3.eth.get_balance(b), w3.eth.block_number

        def test_pays(w3):
            assert balance_after_a_payment(w3) == (1_000_001 * 10**18, 1)
            w3.provider.make_request("evm_setAutomine", [False])

        def test_pays_again(w3):
            assert balance_after_a_payment(w3) == (1_000_001 * 10**18, 1)
        """
    )
    pytester.runpytest_inprocess(*OPTIONS[:2], "--stakesim-engine", "py-evm").assert_outcomes(passed=2)
