"""More attendees than seats, over HTTP, from many connections at once, against a served API and an anvil."""

from collections.abc import Iterator

import pytest

from benchmarks.over_http import Site, race, served, throughput


@pytest.fixture(scope="module")
def sizes(profile: str) -> tuple[int, int]:
    """Numbers of attendees and of free seats."""
    return (16, 4) if profile == "quick" else (200, 50)


@pytest.fixture(scope="module")
def site(sizes: tuple[int, int]) -> Iterator[Site]:
    with served(sizes[0]) as site:
        yield site


@pytest.mark.slow
def test_the_last_seats_are_sold_once_and_nobody_pays_twice(site: Site, sizes: tuple[int, int]) -> None:
    attendees, seats = sizes
    result = race(site, seats, connections=16)
    assert result.problems == []
    assert (result.requests, result.sold) == (2 * attendees, seats)
    assert result.refused.total() == attendees - seats
    assert all(reason.startswith(("409 EventNotOpen", "409 NotEnoughSeats")) for reason in result.refused), (
        result.refused
    )


@pytest.mark.slow
def test_the_time_of_a_booking_is_measured_by_part(site: Site) -> None:
    """With more connections than the database's pool has at first; none is refused."""
    _, spent = throughput(site, connections=16, count=20)
    assert spent["request"][0] == 20
    assert {"node: eth_sendRawTransaction", "database: statements", "database: commits", "signing"} <= spent.keys()
    assert sum(seconds for part, (_, seconds) in spent.items() if part != "request") <= spent["request"][1]
