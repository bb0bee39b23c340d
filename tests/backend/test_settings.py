"""Settings are validated when they are read, and do not show keys."""

from __future__ import annotations

import logging
import traceback
from decimal import Decimal
from pathlib import Path

import pytest
from app.bootstrap.accounts import open_accounts
from app.core.config import Settings
from app.core.errors import AppError
from app.core.keys import account_from_key
from app.services.blockchain_service import BlockchainService
from app.services.transactions.sender import TransactionSender
from backend_environment import BackendEnvironment
from eth_account import Account
from pydantic import SecretStr, ValidationError

KEY = "0x" + "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
VALUES = {
    "BLOCKCHAIN_RPC_URL": "https://node.example/v3/rpc-secret",
    "CONTRACT_ADDRESS": "0x" + "ab" * 20,
    "PLATFORM_PRIVATE_KEY": KEY,
    "JWT_SECRET": "k7Pz0vQe9XwLr2TnB5yHc8JdM4sGa6Uf",
    "DATABASE_URL": "postgresql://someone:db-secret@db.example/books",
}
SECRETS = (KEY, KEY[2:], "rpc-secret", "db-secret", VALUES["JWT_SECRET"])


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_settings_come_from_the_environment(env: pytest.MonkeyPatch) -> None:
    env.setenv("ETH_PRICE_INR", "200000.50")
    settings = Settings()
    assert settings.contract_address == "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
    assert settings.eth_price_inr == Decimal("200000.50")
    assert (settings.price_max_age_seconds, settings.price_max_jump) == (3600, 3)
    assert open_accounts(settings).platform.address == Account.from_key(KEY).address


def test_settings_come_from_a_file(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VALUES:
        env.delenv(name)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()))
    assert Settings().platform_private_key.get_secret_value() == KEY


def test_the_example_names_every_setting() -> None:
    example = (Path(__file__).parents[2] / "backend" / ".env.example").read_text()
    assert all(name.upper() in example for name in Settings.model_fields)


def test_no_secret_is_shown(env: pytest.MonkeyPatch) -> None:
    settings = Settings()
    texts = f"{settings!r} {settings} {open_accounts(settings).platform!r} {open_accounts(settings).platform}"
    assert not [secret for secret in SECRETS if secret in texts]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLATFORM_PRIVATE_KEY", KEY[:-1]),
        ("PLATFORM_PRIVATE_KEY", KEY + "00"),
        ("PLATFORM_PRIVATE_KEY", KEY[:-1] + "g"),
        ("PLATFORM_PRIVATE_KEY", "0x" + "f" * 64),
        ("CONTRACT_ADDRESS", KEY),
        ("ETH_PRICE_INR", "0"),
        ("ETH_PRICE_INR", KEY),
        ("JWT_SECRET", "short"),
        ("JWT_SECRET", "change-me-change-me-change-me-change-me"),
        ("JWT_SECRET", "a" * 64),
        ("BLOCKCHAIN_RPC_URL", "node.example/v3/key-of-the-rpc"),
        ("CONTRACT_CODE_HASH", "0x1234567890"),
        ("CONFIRMATIONS", "0"),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(env: pytest.MonkeyPatch, name: str, value: str) -> None:
    env.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()) as caught:
        Settings()
    output = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in (value, value[2:], *SECRETS) if len(secret) > 8 and secret in output]


def test_the_key_stays_out_of_logs_and_errors(backend: BackendEnvironment, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = SecretStr(KEY)
    sender = TransactionSender(backend.engine.w3, account_from_key(key), backend.database)
    backend.engine.set_balance(sender.address, 10**21)
    chain = BlockchainService(backend.engine.w3, backend.chain.address, sender)
    run = chain.create_event_run_onchain("pottery", 10**18, 2, backend.now().replace(year=2101))
    with pytest.raises(AppError) as caught:
        chain.book_event_onchain(run.onchain_run_id, 3)
    output = "".join(traceback.format_exception(caught.value))
    texts = f"{caplog.text} {output} {sender!r} {vars(sender)!r} {chain!r} {run!r} {key!r}"
    assert "createEventRun" in caplog.text
    assert KEY[2:] not in texts


RAZORPAY = {
    "PAYMENTS": "razorpay",
    "RAZORPAY_KEY_ID": "rzp_test_1",
    "RAZORPAY_KEY_SECRET": "the-secret-of-the-key",
    "RAZORPAY_WEBHOOK_SECRET": "the-secret-of-webhooks",
}


def test_razorpay_takes_its_keys(env: pytest.MonkeyPatch) -> None:
    assert Settings().payments == "manual"
    for name, value in RAZORPAY.items():
        env.setenv(name, value)
    assert Settings().payments == "razorpay"
    assert not [name for name, value in RAZORPAY.items() if name.endswith("SECRET") and value in repr(Settings())]
    for name, value, complaint in (
        ("RAZORPAY_KEY_ID", "", "PAYMENTS=razorpay takes RAZORPAY_KEY_ID"),
        ("RAZORPAY_WEBHOOK_SECRET", "short", "RAZORPAY_WEBHOOK_SECRET is too short"),
        ("RAZORPAY_URL", "http://gateway.example", "RAZORPAY_URL is no https URL"),
        ("PAYMENTS", "cash", "payments"),
    ):
        with env.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(ValidationError, match=complaint) as caught:
                Settings()
        assert "the-secret" not in "".join(traceback.format_exception(caught.value))


def test_a_key_is_32_bytes_in_hex() -> None:
    assert (
        account_from_key(SecretStr(KEY))
        == account_from_key(SecretStr(KEY[2:]))
        == account_from_key(SecretStr("0x" + KEY[2:].upper()))
    )
    for wrong in ("short", KEY[:-1], "0x" + "00" * 32, "0x" + "ff" * 32):
        with pytest.raises(ValueError, match="private key") as caught:
            account_from_key(SecretStr(wrong))
        assert str(caught.value) == "The private key is not 32 bytes in hex, or out of the curve's range."
