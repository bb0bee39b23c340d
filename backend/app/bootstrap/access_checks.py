"""Checks of who may use the tables and the keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy import Engine

from app.bootstrap.check import Check
from app.core.config import Settings
from app.db.access import read_access
from app.db.database import Database
from app.services.operations import open_operations
from app.services.transactions.accounts import SignerError, SigningAccount
from app.services.transactions.remote_account import RemoteAccount


def check_access(settings: Settings, engine: Engine) -> Iterator[Check]:
    """Checks that the tables are the backend's alone, and that it does not connect as a superuser to `DATABASE_URL`."""
    access = read_access(engine)
    finding = "They are the backend's alone: neither anon nor authenticated may use them."
    if access.open_to:
        role = access.open_to[0][1]
        tables = ", ".join(table for table, other in access.open_to if other == role)
        finding = f"Supabase's role {role}, whose key every browser has, may use {tables}."
    elif access.without_row_security:
        finding = f"Without row level security: {', '.join(access.without_row_security)}."
    remedy = "Run `stakesim migrate` as the tables' owner, which closes them."
    yield Check("tables", not access.open_to and not access.without_row_security, finding, remedy)
    if not settings.database_url:
        return
    finding = f"The service connects as {access.user}, who can't change or drop a table."
    if access.is_superuser:
        finding = f"The service connects as {access.user}, a superuser, who may do anything on the server."
    elif access.is_owner:
        finding = f"The service connects as {access.user}, who owns the tables, and so could drop them."
    remedy = "Create the role stakesim_service, and connect as it: BLOCKCHAIN_INTEGRATION.md has the statements."
    yield Check("database user", not access.is_superuser, finding, remedy)


def check_signer(accounts: Sequence[SigningAccount]) -> Iterator[Check]:
    """Checks that the remote signer has the keys. Only a wrong signer is fatal: without an answer operations wait."""
    for account in accounts:
        if not isinstance(account, RemoteAccount):
            continue
        remedy = "Correct SIGNER_URL or the address, or wait until the signer is up: operations are held until then."
        try:
            is_known = account.is_known()
        except SignerError as error:
            yield Check("signer", False, f"{error.words[:1].upper()}{error.words[1:]}.", remedy)
            continue
        finding = f"The signer {'has' if is_known else 'lacks'} the key of {account.address}."
        yield Check("signer", is_known, finding, remedy, fatal=True)


def check_keys(database: Database, chain_id: int, accounts: Sequence[SigningAccount], lanes: int = 1) -> Check:
    """Checks that each open operation has the key of its sender, and says which previous keys are needed still.

    Args:
        database: Where operations are stored.
        chain_id: Id of the network (EIP-155).
        accounts: The accounts that send operations, and then those before a rotation of keys.
        lanes: Number of the first ones.
    """
    with database.transaction() as connection:
        pending = [each for each in open_operations(connection, chain_id) if each.abandoned_at is None]
    counts = Counter(operation.sender for operation in pending)
    senders, previous = [account.address for account in accounts[:lanes]], accounts[lanes:]
    known = {account.address for account in accounts}
    if lost := sorted(counts.keys() - known):
        finding = f"{counts[lost[0]]} open operations are from {lost[0]}, whose key is not here."
        remedy = "Set PLATFORM_PREVIOUS_KEYS, so that they end; if that key leaked, abandon them."
        return Check("keys", False, finding, remedy)
    finding = f"All open operations are from {' and '.join(senders)}."
    if previous:
        needed = [account.address for account in previous if counts[account.address]]
        finding = "No previous key is needed any more: take it out of the settings."
        if needed:
            finding = f"{counts[needed[0]]} open operations need the previous key of {needed[0]}."
    return Check("keys", True, finding)
