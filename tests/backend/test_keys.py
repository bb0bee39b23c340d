"""Where the platform's key may be: in the settings, in a keystore, or elsewhere; and what is said if it is missing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from app.bootstrap import accounts
from app.bootstrap.accounts import open_accounts, open_keystore
from app.bootstrap.check import NotReady
from app.bootstrap.checks import read_settings
from app.bootstrap.wallet import create_keystore
from app.core.config import Settings
from app.core.errors import InvalidRequest
from app.services.transactions.limits import derived_seal_key
from app.services.transactions.remote_account import RemoteAccount
from backend_environment import BackendEnvironment
from dotenv import dotenv_values
from eth_account import Account

KEY = "0x" + "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
OLD_KEY = "0x" + "5c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS, OLD_ADDRESS = Account.from_key(KEY).address, Account.from_key(OLD_KEY).address
SOMEBODY = "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
SECRET = "k7Pz0vQe9XwLr2TnB5yHc8JdM4sGa6Uf"
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def empty_env(monkeypatch: pytest.MonkeyPatch) -> None:
    open_keystore.cache_clear()
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keystore with few rounds, so that it opens quickly."""
    path = tmp_path_factory.mktemp("keys") / "keystore.json"
    return written(path, json.dumps(Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=2)))


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    return written(tmp_path / "password", f"{PASSWORD}\n")


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def settings_with(**values: Any) -> Settings:
    usual = {"blockchain_rpc_url": "http://node.example", "contract_address": "0x" + "ab" * 20, "jwt_secret": SECRET}
    return read_settings(None, **(usual | values))


# ------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "PLATFORM_PRIVATE_KEY is not set, nor PLATFORM_KEYSTORE or SIGNER_ADDRESS instead of it"),
        (
            {"platform_private_key": KEY, "platform_keystore": "k.json"},
            "PLATFORM_PRIVATE_KEY and PLATFORM_KEYSTORE are set: set only one of them, "
            "as the platform's account has one key",
        ),
        (
            {"platform_keystore": "k.json", "signer_address": ADDRESS, "signer_url": "http://s", "seal_secret": SECRET},
            "PLATFORM_KEYSTORE and SIGNER_ADDRESS are set: set only one of them, as the platform's account has one key",
        ),
        (
            {"signer_address": ADDRESS, "seal_secret": SECRET},
            "SIGNER_URL is not set, but an address whose key a remote signer has",
        ),
        (
            {"platform_private_key": KEY, "signer_previous_addresses": OLD_ADDRESS},
            "SIGNER_URL is not set, but an address whose key a remote signer has",
        ),
        (
            {"signer_address": ADDRESS, "signer_url": "http://signer.example"},
            "SEAL_SECRET is not set, and can't be derived from a key that a remote signer has",
        ),
        *(
            (
                {"platform_private_key": KEY, "signer_url": "http://signer.example", name: value},
                "SEAL_SECRET is not set: with several operators it must not depend on the key of one of them",
            )
            for name, value in (
                ("platform_operator_keys", OLD_KEY),
                ("platform_operator_keystores", "k.json"),
                ("signer_operator_addresses", OLD_ADDRESS),
            )
        ),
        (
            {"platform_private_key": KEY, "signer_operator_addresses": OLD_ADDRESS, "seal_secret": SECRET},
            "SIGNER_URL is not set, but an address whose key a remote signer has",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_in_a_sentence(values: dict[str, str], message: str) -> None:
    with pytest.raises(NotReady) as caught:
        settings_with(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signer_url", "signer.example/with-a-token"),
        ("signer_address", "0x1234"),
        ("custody_address", "0x1234"),
        ("platform_previous_keys", f"{OLD_KEY},{OLD_KEY[:-1]}"),
        ("platform_operator_keys", f"{OLD_KEY},{OLD_KEY[:-1]}"),
        ("signer_operator_addresses", f"{ADDRESS},0x12"),
        ("signer_previous_addresses", f"{ADDRESS},0x12"),
        ("seal_secret", "too few"),
        ("seal_secret_previous", "change-me-change-me-change-me-change-me"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(name: str, value: str) -> None:
    with pytest.raises(NotReady, match=f"{name.upper()} is wrong") as caught:
        settings_with(**{"platform_private_key": KEY, name: value})
    assert value not in str(caught.value)
    assert OLD_KEY[2:] not in str(caught.value)


def test_keys_and_urls_are_not_shown() -> None:
    settings = settings_with(
        platform_private_key=KEY,
        platform_previous_keys=OLD_KEY,
        signer_url="https://user:signer-password@signer.example",
        seal_secret=SECRET,
    )
    shown = f"{settings!r} {open_accounts(settings)!r}"
    assert not [secret for secret in (KEY[2:], OLD_KEY[2:], "signer-password", SECRET) if secret in shown]


# ------------------------------------------------------------------------------------------------------ accounts


def test_operators_are_opened_once_each_and_are_no_previous_accounts(keystore: Path, password_file: Path) -> None:
    """The keystore has the platform's key; one operator is given twice, and as a previous account as well."""
    settings = settings_with(
        platform_private_key=KEY,
        platform_operator_keys=f"{OLD_KEY},0x{'6' * 64},{OLD_KEY}",
        platform_operator_keystores=str(keystore),
        platform_operator_keystores_password_file=password_file,
        signer_operator_addresses=SOMEBODY,
        signer_url="http://signer.example",
        platform_previous_keys=f"{OLD_KEY},0x{'7' * 64}",
        seal_secret=SECRET,
    )
    opened = open_accounts(settings)
    six, seven = (Account.from_key(f"0x{digit * 64}").address for digit in "67")
    assert [each.address for each in opened.operators] == [OLD_ADDRESS, six, SOMEBODY]
    assert isinstance(opened.operators[-1], RemoteAccount)
    assert [each.address for each in opened.previous] == [seven]
    assert not [secret for secret in (OLD_KEY[2:], "6" * 64) if secret in f"{settings!r} {opened!r}"]


def test_previous_accounts_are_opened_beside_the_platforms(keystore: Path, password_file: Path) -> None:
    settings = settings_with(
        platform_private_key=OLD_KEY,
        platform_previous_keys=f"0x{'6' * 64}, {OLD_KEY}",
        platform_previous_keystore=keystore,
        platform_previous_keystore_password_file=password_file,
        signer_previous_addresses="0x" + "ab" * 20,
        signer_url="http://signer.example",
    )
    opened = open_accounts(settings)
    assert opened.platform.address == OLD_ADDRESS
    addresses = [account.address for account in opened.previous]
    assert addresses == [Account.from_key("0x" + "6" * 64).address, ADDRESS, SOMEBODY]
    assert isinstance(opened.previous[2], RemoteAccount)


def test_the_seal_secret_seals_and_the_derived_key_is_still_known(backend: BackendEnvironment) -> None:
    derived = derived_seal_key(Account.from_key(KEY))
    for values, keys in (
        ({}, [derived]),
        ({"seal_secret": SECRET}, [SECRET.encode(), derived]),
        (
            {"seal_secret": SECRET, "seal_secret_previous": SECRET[::-1]},
            [SECRET.encode(), derived, SECRET[::-1].encode()],
        ),
        ({"seal_secret_previous": SECRET}, [derived, SECRET.encode()]),
    ):
        assert open_accounts(settings_with(platform_private_key=KEY, **values)).sealer._keys == keys
    settings = settings_with(signer_address=ADDRESS, signer_url="http://s.example", seal_secret=SECRET)
    assert open_accounts(settings).sealer._keys == [SECRET.encode()]


# ------------------------------------------------------------------------------------------------------ keystore


def test_a_keystore_is_opened_with_its_password_file_and_once(
    keystore: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with(platform_keystore=keystore, platform_keystore_password_file=password_file)
    opened = open_accounts(settings)
    assert opened.platform.address == ADDRESS
    assert opened.sealer._keys == [derived_seal_key(Account.from_key(KEY))]
    monkeypatch.setattr(Account, "decrypt", None)
    assert open_accounts(settings).platform is opened.platform


def test_a_terminal_is_asked_for_the_password(keystore: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts.sys.stdin, "isatty", lambda: True)
    asked = []
    monkeypatch.setattr(accounts.getpass, "getpass", lambda prompt: asked.append(prompt) or PASSWORD)
    assert open_accounts(settings_with(platform_keystore=keystore)).platform.address == ADDRESS
    assert asked == [f"Password of {keystore}: "]


def test_without_a_terminal_a_password_file_is_needed(keystore: Path) -> None:
    with pytest.raises(
        NotReady, match=r"needs a password, and there is no terminal to ask: set PLATFORM_KEYSTORE_PASS"
    ):
        open_accounts(settings_with(platform_keystore=keystore))


def refusal(keystore: Path, password_file: Path) -> str:
    with pytest.raises(NotReady) as caught:
        open_keystore(keystore, password_file)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_what_is_wrong_with_a_keystore_is_said_in_a_sentence(
    keystore: Path, password_file: Path, tmp_path: Path
) -> None:
    good = json.loads(keystore.read_text())
    wrong = written(tmp_path / "wrong", "not the password\n")
    assert refusal(keystore, wrong) == f"The password of the keystore {keystore} is wrong."
    missing = tmp_path / "missing"
    assert refusal(missing, password_file) == f"There is no keystore {missing}."
    assert refusal(keystore, missing) == f"There is no password file {missing}."
    empty = written(tmp_path / "empty", "\n")
    assert refusal(keystore, empty) == f"The password file {empty} is empty."
    for number, text in enumerate(
        ("", "[]", "{}", '{"version": 1}', "\ud83d\ude00".encode("utf-16", "surrogatepass").hex())
    ):
        no_keystore = written(tmp_path / f"no-keystore-{number}", text)
        assert refusal(no_keystore, password_file).startswith(f"The file {no_keystore} is no keystore of version 3:")
    good["crypto"]["kdf"] = "rot13"
    odd = written(tmp_path / "odd", json.dumps(good))
    assert refusal(odd, password_file) == (
        f"The keystore {odd} is damaged, or encrypted in a way that is not known here."
    )


def test_a_file_that_everybody_may_read_is_refused(keystore: Path, password_file: Path, tmp_path: Path) -> None:
    open_file = written(tmp_path / "open", keystore.read_text(), 0o604)
    assert refusal(open_file, password_file) == (
        f"Everybody on this machine may read the keystore {open_file}: run `chmod 600 {open_file}`."
    )
    password_file.chmod(0o644)
    assert "may read the password file" in refusal(keystore, password_file)
    password_file.chmod(0o640)  # as a container's secret, for its group
    assert open_keystore(keystore, password_file).address == ADDRESS


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(keystore: Path, password_file: Path, tmp_path: Path) -> None:
    closed = written(tmp_path / "closed", keystore.read_text(), 0o000)
    assert refusal(closed, password_file) == f"The keystore {closed} can't be read (PermissionError)."


@pytest.mark.slow
def test_a_new_keystore_is_what_the_settings_need(tmp_path: Path, password_file: Path) -> None:
    env_file, keystore = tmp_path / ".env", tmp_path / "key.json"
    address = create_keystore(env_file, keystore, PASSWORD)
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert PASSWORD not in keystore.read_text() + env_file.read_text()
    values = dotenv_values(env_file)
    assert values["PLATFORM_KEYSTORE"] == str(keystore)
    assert set(values) == {"PLATFORM_KEYSTORE", "JWT_SECRET"}
    assert open_keystore(keystore, password_file).address == address
    with pytest.raises(InvalidRequest, match="exists already: it is kept"):
        create_keystore(tmp_path / "other.env", keystore, PASSWORD)
    with pytest.raises(InvalidRequest, match=r"has a PLATFORM_KEYSTORE already"):
        create_keystore(env_file, tmp_path / "other.json", PASSWORD)
    with pytest.raises(InvalidRequest, match="password is too short"):
        create_keystore(tmp_path / "other.env", tmp_path / "other.json", "short")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".env", "key.json", "password"]
