"""The sums of the last day's orders, to the wei."""

from __future__ import annotations

from app.services.nonce_queries import CLOCK_TOLERANCE_US
from app.services.transactions.spending import Entry, Spending, _Window
from backend_environment import BackendEnvironment


def entry(nonce: int, wei: int, key: str, person: str = "a", at: int = 1_000) -> Entry:
    return Entry(nonce, at, wei, person, 0, key)


def test_of_two_entries_for_one_nonce_the_larger_one_counts_for_no_operation() -> None:
    for first, second in ((5, 9), (9, 5)):
        window = _Window(end=0, since=0)
        window.add(entry(3, first, "one"))
        window.add(entry(3, second, "other", person="b"))
        assert window.total == 9
        assert window.entries[3].key == ""
        assert sorted(window.by_person.values()) == [9]


def test_an_entry_that_is_read_again_counts_once_as_it_is_now() -> None:
    window = _Window(end=0, since=0)
    window.add(entry(3, 9, "one"))
    window.add(entry(3, 5, "one"))
    assert (window.total, window.entries[3].wei, window.entries[3].key) == (5, 5, "one")
    assert window.remove(3) == entry(3, 5, "one")
    assert window.remove(3) is None
    assert (window.total, window.by_person) == (0, {})


def test_wei_of_nobody_known_count_for_each_person_and_once_for_nobody() -> None:
    window = _Window(end=0, since=0)
    window.add(entry(1, 5, "one"))
    window.add(entry(2, 7, "two", person=""))
    assert (window.of_person("a"), window.of_person("b"), window.of_person("")) == (12, 7, 7)
    assert window.total == 12


def test_an_entry_is_forgotten_once_it_is_older() -> None:
    window = _Window(end=0, since=0)
    for nonce, at in ((1, 10), (2, 20), (3, 30)):
        window.add(entry(nonce, nonce, str(nonce), at=at))
    window.forget_before(20)
    assert list(window.entries) == [2, 3]
    assert window.total == 5
    window.forget_before(31)
    assert (window.entries, window.total) == ({}, 0)


def test_an_approval_is_used_by_an_entry_of_its_operation_or_of_an_unknown_one() -> None:
    window = _Window(end=0, since=0)
    window.add(entry(1, 5, "one", at=CLOCK_TOLERANCE_US))
    assert window.has_used(2 * CLOCK_TOLERANCE_US, "one")
    assert not window.has_used(2 * CLOCK_TOLERANCE_US + 1, "one")
    assert not window.has_used(0, "other")
    window.add(entry(1, 5, "two", at=CLOCK_TOLERANCE_US))
    assert window.has_used(0, "other")


def test_a_final_transaction_counts_with_what_it_has_cost(backend: BackendEnvironment) -> None:
    """By the chain: what the account has less afterwards."""
    platform, w3 = backend.sender.address, backend.engine.w3
    spending = Spending(w3, backend.sender.sealer, [platform])

    def counted(nonce: int, final_block: int) -> int | None:
        with backend.database.autocommit() as connection:
            return spending._cost(connection, w3.eth.chain_id, platform, nonce, final_block)

    before, nonce = w3.eth.get_balance(platform), w3.eth.get_transaction_count(platform)
    backend.open_run()
    block = w3.eth.block_number
    cost = before - w3.eth.get_balance(platform)
    assert cost > 0
    assert w3.eth.get_transaction_count(platform) == nonce + 1
    assert counted(nonce, block) == cost
    assert counted(nonce, block - 1) is None  # not final yet
    assert counted(nonce + 1, block) is None
    assert counted(nonce - 1, block) is None  # in no row
