"""A new platform wallet is written to the file, and nowhere else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from app.bootstrap.accounts import open_accounts
from app.bootstrap.wallet import create_wallet
from app.core.config import Settings
from app.core.errors import InvalidRequest
from dotenv import dotenv_values

EXAMPLE = Path(__file__).parents[2] / "backend" / ".env.example"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_a_new_file_is_for_its_owner_only(env_file: Path) -> None:
    address = create_wallet(env_file)
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    got = dotenv_values(env_file)
    settings = Settings(
        _env_file=env_file,
        blockchain_rpc_url="http://node.example",
        contract_address="0x" + "ab" * 20,
    )
    assert open_accounts(settings).platform.address == address
    assert settings.jwt_secret.get_secret_value() == got["JWT_SECRET"]
    assert [path.name for path in env_file.parent.iterdir()] == [".env"]


def test_two_wallets_differ(env_file: Path) -> None:
    assert create_wallet(env_file) != create_wallet(env_file.with_name("other"))


def test_the_lines_of_the_example_are_filled_in(env_file: Path) -> None:
    env_file.write_text(EXAMPLE.read_text())
    env_file.chmod(0o644)
    create_wallet(env_file)
    before, after = EXAMPLE.read_text().splitlines(), env_file.read_text().splitlines()
    changed = [new.split("=")[0] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["PLATFORM_PRIVATE_KEY", "JWT_SECRET"]
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("line", ["PLATFORM_PRIVATE_KEY=", "export PLATFORM_PRIVATE_KEY = ''", "PLATFORM_PRIVATE_KEY"])
def test_an_empty_line_is_filled_in_and_the_others_stay(env_file: Path, line: str) -> None:
    secret = "JWT_SECRET=kept-as-it-is"
    env_file.write_text(f"# mine\nFIRST=1\n{line}\n{secret}\nNOT_PLATFORM_PRIVATE_KEY=x\nLAST=no newline")
    create_wallet(env_file)
    lines = env_file.read_text().splitlines()
    assert lines[2].startswith("PLATFORM_PRIVATE_KEY=0x")
    assert lines[:2] + lines[3:] == ["# mine", "FIRST=1", secret, "NOT_PLATFORM_PRIVATE_KEY=x", "LAST=no newline"]


def test_a_file_without_a_newline_at_its_end_is_appended_to(env_file: Path) -> None:
    env_file.write_text("FIRST=1")
    create_wallet(env_file)
    assert list(dotenv_values(env_file)) == ["FIRST", "PLATFORM_PRIVATE_KEY", "JWT_SECRET"]


@pytest.mark.parametrize(
    "line",
    [
        "PLATFORM_PRIVATE_KEY=0xab",
        "export PLATFORM_PRIVATE_KEY='0xab'",
        ' PLATFORM_PRIVATE_KEY = "0xab"',
        "PLATFORM_PRIVATE_KEY=0xab\nPLATFORM_PRIVATE_KEY=",
    ],
)
def test_an_existing_key_is_never_overwritten(env_file: Path, line: str) -> None:
    env_file.write_text(line + "\n")
    with pytest.raises(InvalidRequest, match="already") as caught:
        create_wallet(env_file)
    assert "0xab" not in str(caught.value)
    assert env_file.read_text() == line + "\n"


def test_a_symbolic_link_is_kept(env_file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("FIRST=1\n")
    env_file.symlink_to(tmp_path / "elsewhere")
    create_wallet(env_file)
    assert env_file.is_symlink()
    assert "JWT_SECRET" in (tmp_path / "elsewhere").read_text()
