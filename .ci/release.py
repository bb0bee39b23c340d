"""Checks that a release is ready, builds wheel and source archive into dist/, and tries the wheel by itself.

It publishes nothing and makes no tag. `make release` runs it; CONTRIBUTING.md has the steps before and after.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def problems(root: Path) -> list[str]:
    """What is in the way of a release of this checkout, a sentence each."""
    version = version_of(root)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    found = []
    if sections and sections[0][0] == "Unreleased" and sections.pop(0)[1].strip():
        found.append("CHANGELOG.md has changes under Unreleased: move them below a version.")
    if not sections or not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", sections[0][0]):
        found.append(f"CHANGELOG.md's newest section must be '## {version} - YEAR-MONTH-DAY', as in pyproject.")
    if _git(root, "status", "--porcelain"):
        found.append("Some changes are in no commit: commit or stash them.")
    tag, head = _git(root, "rev-list", "-n1", f"refs/tags/v{version}", "--"), _git(root, "rev-parse", "HEAD")
    if tag and tag != head:
        found.append(f"The tag v{version} is on another commit: raise `version` in pyproject.toml.")
    return found


def version_of(root: Path) -> str:
    """The version in `pyproject.toml`."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def build(root: Path, out: Path) -> list[Path]:
    """Builds both archives into an emptied folder, with their checksums beside them."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", out], cwd=root, check=True)
    archives = sorted(out.iterdir())
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in archives)
    (out / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return archives


def try_wheel(wheel: Path, version: str) -> None:
    """Installs the wheel with nothing but its own requirements, and runs scenarios there."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        python, stakesim = f"{folder}/venv/bin/python", f"{folder}/venv/bin/stakesim"
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel], check=True)
        environment = {"STAKESIM_HOME": f"{folder}/state", "PATH": "/usr/bin:/bin"}
        said = subprocess.run([stakesim, "--version"], cwd=folder, env=environment, capture_output=True, text=True)
        if said.stdout.strip() != f"stakesim {version}":
            sys.exit(f"The wheel says it is {said.stdout.strip()!r} instead of stakesim {version}.")
        scenarios = ("no-show", "wrong-values", "reentrant-attendee")
        subprocess.run([stakesim, "run", *scenarios], cwd=folder, env=environment, check=True)


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    if found := problems(ROOT):
        sys.exit("\n".join(found))
    try:
        archives = build(ROOT, ROOT / "dist")
        try_wheel(next(file for file in archives if file.suffix == ".whl"), version_of(ROOT))
    except subprocess.CalledProcessError as failed:
        sys.exit(str(failed))
    version = version_of(ROOT)
    print(f"dist/ is ready. Now: git tag -s v{version} && git push origin v{version}, and upload dist/")  # noqa: T201
