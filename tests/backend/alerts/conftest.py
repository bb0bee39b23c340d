"""One stand-in and one Prometheus for all walks of a process. Each walk begins when everything is well."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus import Prometheus, missing_programs, prometheus
from stand_in import StandIn, stand_in


@pytest.fixture(scope="session")
def production() -> Iterator[tuple[StandIn, Prometheus]]:
    if missing := missing_programs():
        pytest.skip(missing)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alerts-")))
        service = stack.enter_context(stand_in(folder))
        yield service, stack.enter_context(prometheus(folder / "prometheus", f"127.0.0.1:{service.port}"))
