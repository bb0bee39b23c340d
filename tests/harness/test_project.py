"""What a project says of itself in pyproject.toml, read from any folder in it; and where things are kept."""

import sys

import pytest
from stakesim import paths
from stakesim.project import ProjectError, current_project
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


def test_it_is_found_upwards_and_paths_count_from_it(project):
    root = project(SECTION)
    (root / "scenarios").mkdir()
    found = current_project()
    assert found.root == root
    assert found.contract == f"{root}/contracts/Stake.sol:Stake"
    assert found.path == (root / "src",)
    assert found.scenarios == root / "scenarios"
    assert found.failures == root / "scenarios" / "regressions"


def test_without_a_section_the_folder_is_the_project_and_its_yaml_files_are_its_own_affair(project):
    root = project("[tool.other]\nx = 1\n")
    (root / "deep" / "inside" / "scenarios").mkdir()
    found = current_project()
    assert (found.root, found.scenarios, found.backend) == (root / "deep" / "inside", None, None)
    assert found.failures == found.root / "reports" / "failures"
    assert "no-show" in {file.stem for file in scenario_files.scripted()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.stakesim]\nbakend = 'x:y'\n", r"has no key bakend: use backend, contract"),
        ("[tool.stakesim]\npath = 'src'\n", r"path in \[tool.stakesim\] must be a list"),
        ("[tool.stakesim]\nscenarios = 'nowhere'\n", r"there is no folder nowhere"),
        ("[tool.stakesim\n", r"pyproject.toml can't be read"),
    ],
)
def test_what_is_wrong_with_the_section_is_one_sentence(project, text, said):
    project(text)
    with pytest.raises(ProjectError, match=said):
        current_project()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_adapter:open_backend", "there is no module nowhere_adapter: add its folder to `path`"),
        ("adapter_that_lacks:open_backend", "adapter_that_lacks needs not_installed_here, which is not installed"),
        ("adapter_without:open_backend", "adapter_without has no open_backend"),
        ("adapter_without", "is no module:attribute"),
    ],
)
def test_what_can_not_be_loaded_is_one_sentence(project, monkeypatch, name, said):
    root = project("[tool.stakesim]\npath = ['src']\n")
    (root / "src").mkdir()
    (root / "src" / "adapter_that_lacks.py").write_text("import not_installed_here\n")
    (root / "src" / "adapter_without.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ProjectError, match=said):
        current_project().load(name)


def test_the_projects_own_scenarios_and_profiles_come_first(project):
    root = project(SECTION)
    (root / "scenarios" / "profiles").mkdir(parents=True)
    (root / "scenarios" / "mine.yaml").write_text("")
    (root / "scenarios" / "profiles" / "calm.yaml").write_text("")
    (root / "scenarios" / "profiles" / "weekend.yaml").write_text("")
    assert [file.stem for file in scenario_files.scripted()] == ["mine"]
    assert {"mine", "no-show"} <= {file.stem for file in scenario_files.scripted(everything=True)}
    profiles = scenario_files.profiles()
    assert set(profiles) == {"calm", "flaky", "hostile", "volatile", "weekend"}
    assert profiles["calm"] == root / "scenarios" / "profiles" / "calm.yaml"


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"STAKESIM_HOME": "/a/b"}, "/a/b"),
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
