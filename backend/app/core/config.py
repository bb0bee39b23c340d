"""Settings of the service, from the environment and a `.env` file."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from eth_account.signers.local import LocalAccount
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from web3 import Web3

from app.services.transaction_sender import account_of


def _address(text: str) -> str:
    if not Web3.is_address(text):
        raise ValueError("This is no Ethereum address: give 0x and 40 hex digits.")
    return Web3.to_checksum_address(text)


def _key(key: SecretStr) -> SecretStr:
    account_of(key)
    return key


class Settings(BaseSettings):
    """Neither the key, nor the RPC address or the database's, which may hold one too, is shown by `repr` or in errors.

    blockchain_rpc_url: node to send through.
    contract_address: the stake contract.
    platform_private_key: 32 bytes in hex, of the account that owns the contract and pays the gas.
    eth_price_inr: INR for one ETH, where no other price feed is wired in.
    database_url: PostgreSQL; none means the embedded server.
    price_max_age_seconds: an older rate is refused.
    price_max_jump: a rate more than this many times up or down from the last accepted one is refused.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    blockchain_rpc_url: str = Field(repr=False)
    contract_address: Annotated[str, AfterValidator(_address)]
    platform_private_key: Annotated[SecretStr, AfterValidator(_key)]
    eth_price_inr: Decimal | None = Field(default=None, gt=0)
    database_url: str | None = Field(default=None, repr=False)
    price_max_age_seconds: int = Field(default=3600, gt=0)
    price_max_jump: Decimal = Field(default=Decimal(3), gt=1)

    def platform_account(self) -> LocalAccount:
        return account_of(self.platform_private_key)
