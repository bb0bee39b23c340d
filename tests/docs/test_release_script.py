"""What `make release` checks before it builds anything."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from stakesim.paths import checkout


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", checkout() / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository that is ready for version 1.2.3."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-01-31\n\n- A change.\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "-q", "--allow-empty", "-m", "a")


def test_a_project_that_is_ready(release: ModuleType, project: Path) -> None:
    assert release.problems(project) == []
    git(project, "tag", "v1.2.3")
    assert release.problems(project) == []


@pytest.mark.parametrize(
    ("changelog", "problem"),
    [
        ("## Unreleased\n\n- A change.\n\n## 1.2.3 - 2026-01-31\n", "has changes under Unreleased"),
        ("## 1.2.2 - 2026-01-31\n\n- A change.\n", "newest section must be '## 1.2.3 -"),
        ("## 1.2.3\n\n- A change.\n", "newest section must be '## 1.2.3 -"),
        ("", "newest section must be '## 1.2.3 -"),
    ],
)
def test_the_changelog_has_the_version(release: ModuleType, project: Path, changelog: str, problem: str) -> None:
    (project / "CHANGELOG.md").write_text(changelog)
    commit(project)
    [found] = release.problems(project)
    assert problem in found


def test_what_is_released_is_committed_and_has_no_other_tag(release: ModuleType, project: Path) -> None:
    (project / "new.py").touch()
    assert release.problems(project) == ["Some changes are in no commit: commit or stash them."]
    git(project, "tag", "v1.2.3")
    commit(project)
    assert release.problems(project) == ["The tag v1.2.3 is on another commit: raise `version` in pyproject.toml."]


def test_this_checkout_has_a_section_for_its_version(release: ModuleType) -> None:
    """Or one for what comes next. What is not committed or not dated yet is no matter until a release."""
    changelog = (checkout() / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {release.version_of(checkout())} - " in changelog
