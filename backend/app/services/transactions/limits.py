"""What may be signed: checked where a transaction is signed, whoever stored its operation.

Whoever can write a row into the database must not make the service sign it. So an operation has a seal, a MAC of its
columns with a key that the database does not know; and what it asks for is compared with the limits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from eth_account.signers.local import LocalAccount

from app.core.functions import SIGNABLE_FUNCTIONS
from app.services.codec import event_stake_codec
from app.services.operation_types import CREATIONS, FILL_NONCE_GAP, Operation

ORDERS = frozenset(CREATIONS)
"""Functions that send wei out. No limit of amounts stops any other."""
STOPPED_BY_PAUSE = ORDERS | {"withdrawPlatformFees"}
"""Functions that are not signed during a pause: orders, and what pays out the platform's own money. All others are
exits, so that nobody's money is locked in."""


@dataclass(frozen=True)
class Amounts:
    """How much the platform's account may spend on orders without a person's approval.

    An order counts with its value, and with its gas limit at `TransactionPolicy.max_fee_per_gas`; once it is final,
    with what it really cost. A day is the last 24 hours by the database's clock.

    Attributes:
        operation_wei: Wei that one operation may cost.
        person_day_wei: Wei that the operations of a day for one user may cost.
        day_wei: Wei that all operations of a day may cost.
        person_run_seats: Seats that one user may have in one event run; None for any number.
    """

    operation_wei: int
    person_day_wei: int
    day_wei: int
    person_run_seats: int | None = None


@dataclass(frozen=True)
class Limits:
    """What a process signs.

    Attributes:
        chain_id: Id of the network (EIP-155).
        contracts: Addresses of the contracts that it calls, with checksums.
        functions: Names of the functions that it calls.
        amounts: How much it spends; None for any amount.
    """

    chain_id: int
    contracts: frozenset[str]
    functions: frozenset[str] = SIGNABLE_FUNCTIONS
    amounts: Amounts | None = None


def check(operation: Operation, limits: Limits) -> str | None:
    """Returns why the operation must not be signed, as the end of a sentence; None if it may."""
    if operation.chain_id != limits.chain_id:
        return f"it is for network {operation.chain_id}, not {limits.chain_id}"
    if operation.kind == FILL_NONCE_GAP:
        is_empty = operation.to_address == operation.sender and not operation.data and not operation.value_wei
        return None if is_empty else "a transaction that fills a gap of nonces sends nothing to anybody"
    if operation.to_address not in limits.contracts:
        return f"{operation.to_address} is not the contract"
    function, takes_wei = event_stake_codec().functions.get(operation.data[:4], (None, False))
    if function not in limits.functions & SIGNABLE_FUNCTIONS:
        return f"its data calls {function or 'an unknown function'}, which the service does not sign"
    if function != operation.kind:
        return f"its data calls {function}, and its kind is {operation.kind}"
    if operation.value_wei and not takes_wei:
        return f"it sends {operation.value_wei} wei with {function}, which takes none"
    return None


_SEALED_COLUMNS = ("key", "request", "kind", "chain_id", "sender", "to_address", "value_wei")
"""All that is stored once and never changed, but for the subject, which the database may assign, and the data."""


def derived_seal_key(account: LocalAccount) -> bytes:
    """Returns a key of seals that all processes with the account's key have."""
    return hmac.digest(bytes(account.key), b"seal of an operation", hashlib.sha256)


class Sealer:
    """Seals operations, so that rows that another program inserts are not signed.

    Args:
        address: Address of the platform's account.
        keys: Keys of seals, at least one: the first one seals, and all are known.
        keys_by_sender: Further keys that are known for the operations of one sender only: a previous account's key,
            even if it leaked, seals nothing that another account signs.

    Attributes:
        address: Address of the platform's account.
    """

    def __init__(
        self, address: str, keys: Sequence[bytes], keys_by_sender: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        self.address = address
        self._keys, self._keys_by_sender = keys, keys_by_sender

    def seal(self, columns: Mapping[str, Any]) -> str:
        """Returns the seal of an operation with these columns: HMAC-SHA-256 in hex."""
        return self.mac(*_sealed_parts(columns))

    def seal_of(self, operation: Operation) -> str:
        """Returns the seal of an operation's columns."""
        return self.seal(_columns_of(operation))

    def mac(self, *parts: str | int | None) -> str:
        """Returns the seal of a list of values. The first value says what the list is about."""
        return _mac(self._keys[0], parts)

    def is_mac(self, seal: object, sender: str, *parts: str | int | None) -> bool:
        """Returns whether a seal is that of a list of values that is about an account."""
        if not isinstance(seal, str) or not seal.isascii():
            return False
        of_sender = self._keys_by_sender.get(sender)
        keys = self._keys if of_sender is None else [*self._keys, of_sender]
        return any(hmac.compare_digest(seal, _mac(key, parts)) for key in keys)

    def has_sealed(self, operation: Operation) -> bool:
        """Returns whether the operation has the seal of its columns."""
        return self.is_mac(operation.seal, operation.sender, *_sealed_parts(_columns_of(operation)))


def _columns_of(operation: Operation) -> dict[str, Any]:
    return {name: getattr(operation, name) for name in (*_SEALED_COLUMNS, "data", "person")}


def _sealed_parts(columns: Mapping[str, Any]) -> list[str | int | None]:
    person = [columns["person"]] if columns.get("person") is not None else []  # rows from before have none
    return [*(columns[name] for name in _SEALED_COLUMNS), columns["data"].hex(), *person]


def _mac(key: bytes, parts: Sequence[str | int | None]) -> str:
    return hmac.digest(key, json.dumps(parts).encode(), hashlib.sha256).hex()
