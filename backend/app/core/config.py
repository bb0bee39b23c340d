"""Settings of the service, from the environment and a `.env` file."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from eth_account.signers.local import LocalAccount
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from web3 import Web3

from app.services.transactions.sender import GWEI, Policy, account_of

LEAST_SECRET = 32
"""Bytes that the key of HMAC-SHA-256 has to have (RFC 7518, 3.2)."""


def _address(text: str) -> str:
    if not Web3.is_address(text):
        raise ValueError("This is no Ethereum address: give 0x and 40 hex digits.")
    return Web3.to_checksum_address(text)


def _key(key: SecretStr) -> SecretStr:
    account_of(key)
    return key


def _secret(secret: SecretStr) -> SecretStr:
    """Refuses what can be guessed: too short, one of the usual defaults, or hardly any different characters."""
    text = secret.get_secret_value()
    if len(text.encode()) < LEAST_SECRET:
        raise ValueError(f"The secret is too short: give at least {LEAST_SECRET} bytes, as `stakesim wallet new` does.")
    if re.search("change.?me|secret|password|example|default", text, re.IGNORECASE) or len(set(text)) < 10:
        raise ValueError("The secret looks like a default: give a random one, as `stakesim wallet new` does.")
    return secret


def _urls(text: str) -> str:
    urls = [url.strip() for url in text.split(",")]
    if not all(re.match(r"https?://[^/\s]", url) for url in urls):
        raise ValueError("Give the node's address as http:// or https://, several separated by commas.")
    return ",".join(urls)


def _code_hash(text: str | None) -> str | None:
    if text is not None and not re.fullmatch("0x[0-9a-fA-F]{64}", text):
        raise ValueError("Give the keccak-256 of the contract's code: 0x and 64 hex digits.")
    return text.lower() if text else None


class Settings(BaseSettings):
    """Neither the keys, nor the RPC address or the database's, which may hold one too, is shown by `repr` or in errors.

    blockchain_rpc_url: node to send through, or several separated by commas, tried in this order.
    chain_id: of the network; the service refuses to start on another one.
    contract_address: the stake contract.
    contract_code_hash: keccak-256 of the code that must be there; none means this project's `EventStake`.
    platform_private_key: 32 bytes in hex, of the account that owns the contract and pays the gas.
    jwt_secret: signs the bearer tokens; at least 32 bytes.
    eth_price_inr: INR for one ETH, where no other price feed is wired in.
    database_url: PostgreSQL; none means the embedded server.
    price_max_age_seconds: an older rate is refused.
    price_max_jump: a rate more than this many times up or down from the last accepted one is refused.
    confirmations: blocks, its own among them, after which what a transaction did is final.
    max_fee_gwei, priority_fee_gwei: the most that is paid for a unit of gas, and the tip, in gwei.
    reconcile_seconds: how often database and chain are compared.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    blockchain_rpc_url: Annotated[str, AfterValidator(_urls)] = Field(repr=False)
    chain_id: int = Field(default=11_155_111, gt=0)
    contract_address: Annotated[str, AfterValidator(_address)]
    contract_code_hash: Annotated[str | None, AfterValidator(_code_hash)] = None
    platform_private_key: Annotated[SecretStr, AfterValidator(_key)]
    jwt_secret: Annotated[SecretStr, AfterValidator(_secret)]
    eth_price_inr: Decimal | None = Field(default=None, gt=0)
    database_url: str | None = Field(default=None, repr=False)
    price_max_age_seconds: int = Field(default=3600, gt=0)
    price_max_jump: Decimal = Field(default=Decimal(3), gt=1)
    confirmations: int = Field(default=3, ge=1, le=64)
    max_fee_gwei: Decimal = Field(default=Decimal(200), gt=0)
    priority_fee_gwei: Decimal = Field(default=Decimal(1), gt=0)
    reconcile_seconds: int = Field(default=15, gt=0)

    @property
    def rpc_urls(self) -> list[str]:
        return self.blockchain_rpc_url.split(",")

    @property
    def policy(self) -> Policy:
        return Policy(
            confirmations=self.confirmations,
            max_fee_per_gas=int(self.max_fee_gwei * GWEI),
            priority_fee=int(self.priority_fee_gwei * GWEI),
        )

    def platform_account(self) -> LocalAccount:
        return account_of(self.platform_private_key)
