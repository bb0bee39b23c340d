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

from app.services.codec import event_stake_codec
from app.services.operation_types import FILL_NONCE_GAP, Operation

SIGNED_FUNCTIONS = frozenset(
    {
        "createEventRun",
        "createEventRunFor",
        "bookEvent",
        "bookEventFor",
        "completeEvent",
        "cancelEvent",
        "cancelBooking",
        "expireEvent",
        "withdraw",
        "withdrawTo",
        "withdrawPlatformFees",
    }
)
"""Functions that the services call by transaction. Ownership, operators and the pause are none of them."""


@dataclass(frozen=True)
class Limits:
    """What a process signs.

    Attributes:
        chain_id: Id of the network (EIP-155).
        contracts: Addresses of the contracts that it calls, with checksums.
    """

    chain_id: int
    contracts: frozenset[str]


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
    if function not in SIGNED_FUNCTIONS:
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
        return _mac(self._keys[0], columns)

    def has_sealed(self, operation: Operation) -> bool:
        """Returns whether the operation has the seal of its columns."""
        seal = operation.seal
        if seal is None:
            return False
        columns = {name: getattr(operation, name) for name in (*_SEALED_COLUMNS, "data")}
        of_sender = self._keys_by_sender.get(operation.sender)
        keys = self._keys if of_sender is None else [*self._keys, of_sender]
        return any(hmac.compare_digest(seal, _mac(key, columns)) for key in keys)


def _mac(key: bytes, columns: Mapping[str, Any]) -> str:
    message = json.dumps([*(columns[name] for name in _SEALED_COLUMNS), columns["data"].hex()])
    return hmac.digest(key, message.encode(), hashlib.sha256).hex()
