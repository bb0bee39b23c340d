"""`[tool.stakesim]` in pyproject.toml, read from any folder of the project; and the state directory."""

import sys
from pathlib import Path

import pytest
from stakesim import paths
from stakesim.commands.cli import project_commands
from stakesim.commands.init import init
from stakesim.project import ProjectError, current_project, read_section
from stakesim.runner import scenario_files

SECTION = """
[tool.stakesim]
backend = "my_adapter:open_backend"
contract = "contracts/Stake.sol:Stake"
path = ["src"]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes a pyproject.toml and goes to a folder two levels below it."""

    def write(text, below=""):
        (tmp_path / "pyproject.toml").write_text(text)
        inside = tmp_path / "deep" / "inside" / below
        inside.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(inside)
        return tmp_path

    return write


def test_project_is_found_upwards_and_paths_are_relative_to_it(project):
    root = project(SECTION)
    (root / "scenarios").mkdir()
    (root / "src").mkdir()
    current = current_project()
    assert current.root == root
    assert current.contract == f"{root}/contracts/Stake.sol:Stake"
    assert current.path == (root / "src",)
    assert current.scenarios == root / "scenarios"
    assert current.failures == root / "scenarios" / "regressions"


def test_without_a_section_the_working_directory_is_the_project(project):
    root = project("[tool.other]\nx = 1\n")
    (root / "deep" / "inside" / "scenarios").mkdir()
    current = current_project()
    assert (current.root, current.scenarios, current.backend) == (root / "deep" / "inside", None, None)
    assert current.failures == current.root / "reports" / "failures"
    assert "no-show" in {file.stem for file in scenario_files.scripted()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.stakesim]\nbakend = 'x:y'\n", r"has no key bakend: use backend, contract"),
        ("[tool.stakesim]\npath = 'src'\n", r"path in \[tool.stakesim\] must be a list of folders"),
        ("[tool.stakesim]\npath = [1]\n", r"path in \[tool.stakesim\] must be a list of folders"),
        ("[tool.stakesim]\npath = ['nope']\n", r"there is no folder nope, which `path` in \[tool.stakesim\] names"),
        ("[tool.stakesim]\nbackend = 5\n", r"backend in \[tool.stakesim\] must be text"),
        ("[tool]\nstakesim = 5\n", r"`stakesim` in \[tool\] is a number, not a table: write \[tool.stakesim\]"),
        ("[tool]\nstakesim = 'x'\n", r"`stakesim` in \[tool\] is text, not a table"),
        ("[tool]\nstakesim = []\n", r"`stakesim` in \[tool\] is a list, not a table"),
        ("[[tool.stakesim]]\n", r"`stakesim` in \[tool\] is a list, not a table"),
        ("tool = 5\n", r"`tool` is a number, not a table"),
        ("tool = []\n", r"`tool` is a list, not a table"),
        ("x = " + "9" * 5000, r"pyproject.toml can't be read"),
        ("[tool.stakesim]\nscenarios = 'nowhere'\n", r"there is no folder nowhere"),
        ("[tool.stakesim\n", r"pyproject.toml can't be read"),
    ],
)
def test_invalid_section_is_one_sentence(project, text, message):
    project(text)
    with pytest.raises(ProjectError, match=message):
        current_project()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_adapter:open_backend", "there is no module nowhere_adapter: add its folder to `path`"),
        ("adapter_that_lacks:open_backend", "adapter_that_lacks needs not_installed_here, which is not installed"),
        ("adapter_without:open_backend", "adapter_without has no open_backend"),
        ("adapter_without", "is no module:attribute"),
        (":", "is no module:attribute"),
        (":x", "is no module:attribute"),
        ("x:", "is no module:attribute"),
        (".x:y", "is no module:attribute"),
        ("..x:y", "is no module:attribute"),
        ("a b:y", "is no module:attribute"),
    ],
)
def test_object_that_can_not_be_loaded_is_one_sentence(project, monkeypatch, name, message):
    root = project("[tool.stakesim]\npath = ['src']\n")
    (root / "src").mkdir()
    (root / "src" / "adapter_that_lacks.py").write_text("import not_installed_here\n")
    (root / "src" / "adapter_without.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ProjectError, match=message):
        current_project().load(name)


def test_own_scenarios_and_profiles_come_first(project):
    root = project(SECTION)
    (root / "src").mkdir()
    (root / "scenarios" / "profiles").mkdir(parents=True)
    (root / "scenarios" / "mine.yaml").write_text("")
    (root / "scenarios" / "profiles" / "calm.yaml").write_text("")
    (root / "scenarios" / "profiles" / "weekend.yaml").write_text("")
    assert [file.stem for file in scenario_files.scripted()] == ["mine"]
    assert {"mine", "no-show"} <= {file.stem for file in scenario_files.scripted(include_shipped=True)}
    profiles = scenario_files.profiles()
    assert set(profiles) == {"administered", "calm", "flaky", "hostile", "volatile", "weekend"}
    assert profiles["calm"] == root / "scenarios" / "profiles" / "calm.yaml"


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"STAKESIM_HOME": "/a/b"}, "/a/b"),
        ({"STAKESIM_HOME": "~nobodyxx/x"}, "~nobodyxx/x"),
        ({"STAKESIM_HOME": "~/x", "HOME": "/h"}, "/h/x"),
        ({"XDG_DATA_HOME": "~nobodyxx"}, "~nobodyxx/stakesim"),
        ({"XDG_DATA_HOME": "/x"}, "/x/stakesim"),
        ({"HOME": "/h"}, "/h/.local/share/stakesim"),
    ],
)
def test_the_state_directory_of_an_installed_library(monkeypatch, variables, place):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("STAKESIM_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(paths.state_dir()) == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no\\nsettings')", "RuntimeError: no settings"),
        ("raise ValueError", "ValueError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import sys\nsys.exit('no')", "SystemExit: no"),
        ("from json import nothing_like_it", "ImportError: cannot import name 'nothing_like_it' from 'json'"),
        ("import json\njson.nothing", "AttributeError: module 'json' has no attribute 'nothing'"),
        ("import json\njson.loads('x')", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("x = 1\ndef (:", "SyntaxError: invalid syntax"),
    ],
)
def test_any_error_of_an_import_is_one_sentence_with_its_place(project, monkeypatch, text, message):
    root = project("[tool.stakesim]\npath = ['src']\n")
    (root / "src").mkdir()
    file = root / "src" / "adapter_that_fails.py"
    file.write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ProjectError) as failed:
        current_project().load("adapter_that_fails:open_backend")
    assert str(failed.value).startswith(f"adapter_that_fails can't be imported ({message}")
    assert str(failed.value).endswith(f": mend it at {file}:{len(text.splitlines())}.")


def test_make_is_advised_only_in_this_repository(project, monkeypatch):
    root = project("[tool.stakesim]\n")
    (root / "adapter_that_needs.py").write_text("import not_installed_here\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ProjectError, match=r"not installed: install what the backend needs\.$"):
        current_project().load("adapter_that_needs:open_backend")
    monkeypatch.setattr("stakesim.project.checkout", lambda: root)
    with pytest.raises(ProjectError, match=r"install what the backend needs \(`make serve`, or `pip install -e"):
        current_project().load("adapter_that_needs:open_backend")


def test_commands_are_a_typer_application(project, monkeypatch):
    root = project("[tool.stakesim]\ncommands = 'my_commands:app'\n")
    (root / "my_commands.py").write_text("app = 5\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ProjectError, match=r"names my_commands:app as `commands`, which is no typer\.Typer"):
        project_commands(current_project())


# ----------------------------------------------------------------------------------------------------- stakesim init


def test_starter_is_written_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init(tmp_path)
    assert current_project().scenarios == tmp_path / "scenarios"
    with pytest.raises(ProjectError, match="there is nothing to start"):
        init(tmp_path)


def test_file_that_would_become_invalid_toml_is_left_unchanged(tmp_path):
    file = tmp_path / "pyproject.toml"
    file.write_text("tool = {}\n")
    with pytest.raises(ProjectError, match=r"can't take a section \[tool.stakesim\] at its end: write its `tool` as"):
        init(tmp_path)
    assert file.read_text() == "tool = {}\n"
    assert list(tmp_path.iterdir()) == [file]


def test_file_in_place_of_a_folder_is_an_error_before_anything_is_written(tmp_path):
    (tmp_path / ".github").write_text("")
    with pytest.raises(ProjectError, match=r"\.github is a file where a folder must be for .*: rename it\.$"):
        init(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [".github"]
    with pytest.raises(ProjectError, match=r"\.github is a file where a folder must be"):
        init(tmp_path / ".github")


def test_incomplete_starter_is_completed(tmp_path, monkeypatch, capsys):
    write_text = Path.write_text

    def full(self, *args, **kwargs):
        if self.name == "stakesim.yml":
            raise OSError(28, "No space left on device")
        return write_text(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            init(tmp_path / "my stake")
    assert not (tmp_path / "my stake" / "pyproject.toml").exists()
    capsys.readouterr()
    init(tmp_path / "my stake")
    assert read_section(tmp_path / "my stake" / "pyproject.toml") == {"scenarios": "scenarios"}
    assert capsys.readouterr().out.endswith(f"now: cd '{tmp_path}/my stake' && stakesim run\n")
