"""Settings of the service, from environment variables and a `.env` file."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from web3 import Web3

from app.core.payment_settings import PaymentSettings
from app.core.units import WEI_PER_GWEI

MIN_SECRET_BYTES = 32
"""Minimum key length of HMAC-SHA-256 (RFC 7518, 3.2)."""
MIN_DIFFERENT_CHARACTERS = 10
"""Minimum number of different characters of a secret; one with fewer looks like a default."""


def account_from_key(private_key: SecretStr) -> LocalAccount:
    """Returns the account of a private key.

    This checks the length, as `eth_account` pads a key that lacks a digit, and returns another account.

    Args:
        private_key: 32 bytes in hex, with or without 0x.

    Raises:
        ValueError: The key is malformed. The message does not contain the key.
    """
    text = private_key.get_secret_value()
    if re.fullmatch("(0x)?[0-9a-fA-F]{64}", text):
        with suppress(ValueError):
            account: LocalAccount = Account.from_key(text)
            return account
    raise ValueError("The private key is not 32 bytes in hex, or out of the curve's range.")


def _check_private_key(private_key: SecretStr) -> SecretStr:
    account_from_key(private_key)
    return private_key


def _check_address(text: str) -> str:
    if not Web3.is_address(text):
        raise ValueError("This is no Ethereum address: give 0x and 40 hex digits.")
    return Web3.to_checksum_address(text)


def _check_secret(secret: SecretStr) -> SecretStr:
    """Refuses secrets that can be guessed: too short, a usual default, or few different characters."""
    text = secret.get_secret_value()
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(
            f"The secret is too short: give at least {MIN_SECRET_BYTES} bytes, as `stakesim wallet new` does."
        )
    default = re.search("change.?me|secret|password|example|default", text, re.IGNORECASE)
    if default or len(set(text)) < MIN_DIFFERENT_CHARACTERS:
        raise ValueError("The secret looks like a default: give a random one, as `stakesim wallet new` does.")
    return secret


def _check_previous_secret(secret: SecretStr | None) -> SecretStr | None:
    return secret if secret is None else _check_secret(secret)


def _check_origins(text: str) -> str:
    """Checks `https://a.example,https://b.example:8443`. An origin has no path, and no wildcard."""
    origins = [origin.strip().lower() for origin in text.split(",") if origin.strip()]
    if not all(re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", origin) for origin in origins):
        raise ValueError("Give origins as https://app.example.org, without a path, several separated by commas.")
    return ",".join(origins)


def _check_urls(text: str) -> str:
    urls = [url.strip() for url in text.split(",")]
    if not all(re.match(r"https?://[^/\s]", url) for url in urls):
        raise ValueError("Give the node's address as http:// or https://, several separated by commas.")
    return ",".join(urls)


def _check_code_hash(text: str | None) -> str | None:
    if text is not None and not re.fullmatch("0x[0-9a-fA-F]{64}", text):
        raise ValueError("Give the keccak-256 of the contract's code: 0x and 64 hex digits.")
    return text.lower() if text else None


def _check_feed_url(url: SecretStr) -> SecretStr:
    if not re.match(r"https?://[^/\s]+", url.get_secret_value()):
        raise ValueError("Give the feed's address as https:// or http://.")
    return url


def _parse_json_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("Give a JSON list of feeds, each with name, url, rate and as_of.") from None


class PriceFeedSettings(BaseModel):
    """An HTTP API that responds with the price of ETH in JSON.

    Attributes:
        name: Name for logs and rows.
        url: Address. It may contain a key, so it is never shown.
        rate: Where the rate in INR per ETH is: names of members and indexes of lists, separated by dots.
        as_of: Where its time is: seconds or milliseconds since 1970, or ISO 8601 with a time zone.
        headers: Headers of the request, such as one with a key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[\w.-]{1,40}$")
    url: Annotated[SecretStr, AfterValidator(_check_feed_url)]
    rate: str = Field(min_length=1)
    as_of: str = Field(min_length=1)
    headers: dict[str, SecretStr] = {}


class DatabaseSettings(BaseSettings):
    """The settings of the database alone, for what works without a node and a key.

    Attributes:
        database_url: URL of a PostgreSQL database; the embedded server if None.
        database_pool_size: Maximum number of connections of a process to the database.
        database_pool_timeout_seconds: Seconds to wait for a connection if all are in use.
        database_statement_timeout_seconds: Seconds that a statement may take.
        database_lock_timeout_seconds: Seconds that a statement may wait for a lock.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: str | None = Field(default=None, repr=False)
    database_pool_size: int = Field(default=10, ge=1, le=500)
    database_pool_timeout_seconds: float = Field(default=5, gt=0)
    database_statement_timeout_seconds: float = Field(default=30, gt=0)
    database_lock_timeout_seconds: float = Field(default=5, gt=0)


class Settings(DatabaseSettings, PaymentSettings):
    """The settings. Each is read from the environment variable with its name in capitals.

    `repr` and validation errors show no keys, and not the URLs of node and database, which may contain keys. The
    settings of the database are in `DatabaseSettings`, those of payments in `PaymentSettings`.

    Attributes:
        blockchain_rpc_url: URL of the node, or several separated by commas, tried in this order.
        chain_id: Id of the network (EIP-155). The service refuses to start on another network.
        contract_address: Address of the stake contract.
        contract_code_hash: Keccak-256 of the contract's code; if None, the code must be this project's `EventStake`.
        platform_private_key: Key of the account that owns the contract and pays the gas: 32 bytes in hex.
        jwt_secret: Key that signs the bearer tokens; at least 32 bytes.
        jwt_secret_previous: Key that signed them before, and only verifies: set it while keys are rotated.
        jwt_issuer: Claim `iss` of the tokens.
        jwt_max_lifetime_seconds: Maximum lifetime of a token, from `iat` to `exp`; tokens that live longer are refused.
        cors_origins: Origins whose pages may call the API from a browser, separated by commas; none by default.
        hsts_seconds: Seconds for which browsers are told to use https only. None: a year, if a request came by https;
            0: never; another number: always, as behind a proxy that ends TLS.
        eth_price_inr: INR per ETH, set by hand; without it and `price_feeds`, no price can be quoted.
        eth_price_inr_as_of: When `eth_price_inr` was valid. Without it, `eth_price_inr` is not used.
        answers_keep_days: Days for which the response to an Idempotency-Key is kept; then a key without an operation is
            free again.
        price_feeds: HTTP APIs with the price of ETH, in order of preference. `eth_price_inr` comes after them.
        price_refresh_seconds: Seconds between two requests to a feed.
        price_max_age_seconds: Maximum age of a feed's rate.
        price_manual_max_age_seconds: Maximum age of `eth_price_inr`.
        price_max_jump: Maximum factor between a rate and those accepted before, up or down.
        price_max_deviation: Maximum factor between the rates of two sources.
        confirmations: Number of blocks, including the transaction's own, after which a transaction is final.
        finality_blocks: Depth in blocks at which a block cannot change; None to ask the node for its finalized block.
        max_fee_gwei: Maximum fee in gwei per gas.
        priority_fee_gwei: Priority fee in gwei per gas.
        reconcile_seconds: Seconds between two rounds of the reconciler.
        operation_expiry_seconds: Seconds for which an operation without a nonce is held before it is rejected.
        max_head_age_seconds: Seconds without a new block after which the service is not ready; 0 for a chain that mines
            on demand only.
        wallet_low_eth: Balance of the platform's wallet in ETH below which it needs ether, for an alert.
    """

    blockchain_rpc_url: Annotated[str, AfterValidator(_check_urls)] = Field(repr=False)
    chain_id: int = Field(default=11_155_111, gt=0)
    contract_address: Annotated[str, AfterValidator(_check_address)]
    contract_code_hash: Annotated[str | None, AfterValidator(_check_code_hash)] = None
    platform_private_key: Annotated[SecretStr, AfterValidator(_check_private_key)]
    jwt_secret: Annotated[SecretStr, AfterValidator(_check_secret)]
    jwt_secret_previous: Annotated[SecretStr | None, AfterValidator(_check_previous_secret)] = None
    jwt_issuer: str = Field(default="stakesim", min_length=1)
    jwt_max_lifetime_seconds: int = Field(default=86_400, gt=0, le=366 * 86_400)
    cors_origins: Annotated[str, AfterValidator(_check_origins)] = ""
    hsts_seconds: int | None = Field(default=None, ge=0)
    eth_price_inr: Decimal | None = Field(default=None, gt=0)
    eth_price_inr_as_of: AwareDatetime | None = None
    answers_keep_days: int = Field(default=7, ge=1)
    price_feeds: Annotated[list[PriceFeedSettings], NoDecode, BeforeValidator(_parse_json_list)] = Field(
        default=[], repr=False
    )
    price_refresh_seconds: int = Field(default=60, gt=0)
    price_max_age_seconds: int = Field(default=3600, gt=0)
    price_manual_max_age_seconds: int = Field(default=86_400, gt=0)
    price_max_jump: Decimal = Field(default=Decimal(3), gt=1)
    price_max_deviation: Decimal = Field(default=Decimal("1.1"), gt=1)
    confirmations: int = Field(default=3, ge=1, le=64)
    finality_blocks: int | None = Field(default=None, ge=1)
    max_fee_gwei: Decimal = Field(default=Decimal(200), gt=0)
    priority_fee_gwei: Decimal = Field(default=Decimal(1), gt=0)
    reconcile_seconds: int = Field(default=15, gt=0)
    operation_expiry_seconds: int = Field(default=1800, gt=0)
    max_head_age_seconds: int = Field(default=180, ge=0)
    wallet_low_eth: Decimal = Field(default=Decimal("0.5"), ge=0)

    @property
    def rpc_urls(self) -> list[str]:
        """The URLs of `blockchain_rpc_url`, in order."""
        return self.blockchain_rpc_url.split(",")

    @property
    def max_fee_per_gas(self) -> int:
        """`max_fee_gwei` in wei per gas."""
        return int(self.max_fee_gwei * WEI_PER_GWEI)

    @property
    def priority_fee_per_gas(self) -> int:
        """`priority_fee_gwei` in wei per gas."""
        return int(self.priority_fee_gwei * WEI_PER_GWEI)

    def platform_account(self) -> LocalAccount:
        """Returns the account of `platform_private_key`."""
        return account_from_key(self.platform_private_key)
