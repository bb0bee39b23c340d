"""Settings of the service, from environment variables and a `.env` file."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from app.core.functions import SIGNABLE_FUNCTIONS
from app.core.keys import SETTINGS_CONFIG, KeySettings, check_address, check_secret
from app.core.payment_settings import PaymentSettings
from app.core.units import WEI_PER_GWEI


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


def _check_functions(text: str) -> str:
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := ", ".join(sorted(names - SIGNABLE_FUNCTIONS)):
        raise ValueError(f"The service never signs {unknown}: give some of {', '.join(sorted(SIGNABLE_FUNCTIONS))}.")
    return ",".join(sorted(names))


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

    model_config = SETTINGS_CONFIG

    database_url: str | None = Field(default=None, repr=False)
    database_pool_size: int = Field(default=10, ge=1, le=500)
    database_pool_timeout_seconds: float = Field(default=5, gt=0)
    database_statement_timeout_seconds: float = Field(default=30, gt=0)
    database_lock_timeout_seconds: float = Field(default=5, gt=0)


class Settings(DatabaseSettings, KeySettings, PaymentSettings):
    """The settings. Each is read from the environment variable with its name in capitals.

    `repr` and validation errors show no keys, and not the URLs of node and database, which may contain keys. The
    settings of the database are in `DatabaseSettings`, those of the keys in `KeySettings`, those of payments in
    `PaymentSettings`.

    Attributes:
        blockchain_rpc_url: URL of the node, or several separated by commas, tried in this order.
        chain_id: Id of the network (EIP-155). The service refuses to start on another network.
        contract_address: Address of the stake contract.
        contract_code_hash: Keccak-256 of the contract's code; if None, the code must be this project's `EventStake`.
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
        signed_functions: Functions of the contract that may be signed, separated by commas; all that the service has by
            default. Functions about ownership, operators and the contract's pause are never signed.
        limit_operation_eth: ETH that one booking or run may cost without approval: its value, and its gas at
            `max_fee_gwei`.
        limit_person_day_eth: ETH that the bookings and runs of one user may cost within 24 hours.
        limit_day_eth: ETH that all bookings and runs may cost within 24 hours.
        limit_person_run_seats: Seats that one user may have in one event run.
        reconcile_seconds: Seconds between two rounds of the reconciler.
        operation_expiry_seconds: Seconds for which an operation without a nonce is held before it is rejected.
        max_head_age_seconds: Seconds without a new block after which the service is not ready; 0 for a chain that mines
            on demand only.
        wallet_low_eth: Balance of the platform's wallet in ETH below which it needs ether, for an alert.
    """

    blockchain_rpc_url: Annotated[str, AfterValidator(_check_urls)] = Field(repr=False)
    chain_id: int = Field(default=11_155_111, gt=0)
    contract_address: Annotated[str, AfterValidator(check_address)]
    contract_code_hash: Annotated[str | None, AfterValidator(_check_code_hash)] = None
    jwt_secret: Annotated[SecretStr, AfterValidator(check_secret)]
    jwt_secret_previous: Annotated[SecretStr | None, AfterValidator(check_secret)] = None
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
    signed_functions: Annotated[str, AfterValidator(_check_functions)] = ",".join(sorted(SIGNABLE_FUNCTIONS))
    limit_operation_eth: Decimal = Field(default=Decimal(2), ge=0)
    limit_person_day_eth: Decimal = Field(default=Decimal(5), ge=0)
    limit_day_eth: Decimal = Field(default=Decimal(50), ge=0)
    limit_person_run_seats: int = Field(default=10, ge=1)
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
