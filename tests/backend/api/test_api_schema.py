"""For any request, the API does what its OpenAPI document says: no undocumented status, no 500, no invalid response."""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from api_environment import SECRET, ApiEnvironment, ApiUser, open_api
from app.api.schemas import RFC_3339
from app.core.security import issue_token
from app.db.database import Database
from backend_environment import DAY, DeployedContracts, backend_on

if TYPE_CHECKING:  # its import takes seconds, also when other tests are run
    from schemathesis.core.failures import Failure
    from schemathesis.specs.openapi.schemas import OpenApiSchema


@pytest.fixture
def funded_api(anvil: DeployedContracts, database: Database) -> ApiEnvironment:
    """An API whose wallet can pay for every request."""
    api = open_api(backend_on(anvil, "EventStake", database))
    api.backend.engine.set_balance(api.backend.sender.address, 2**200)
    return api


OF_NO_ROUTE = ("method_not_allowed", "unknown_route")
"""Codes of refusals that reach no route."""
STATUSES = {
    "platform": {"200", "400", "401", "404", "409", "422"},
    "host": {"200", "400", "401", "403", "404", "409", "422"},
    "attendee": {"200", "400", "401", "403", "404", "409", "422"},
}
"""Statuses that the callers meet at least, by role, beside 201 or 202."""
REFUSALS = [400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 422, 428, 429, "5xx"]
"""How a request that violates the schema may be refused; it may also be too long."""
EXAMPLES = {"quick": 2, "ci": 5, "deep": 1_000}
"""Of each route and phase, beside those that the schema itself gives and that cover its edges."""


@pytest.mark.in_turn
@pytest.mark.slow
@pytest.mark.parametrize("role", STATUSES)
def test_the_api_is_as_documented(funded_api: ApiEnvironment, profile: str, role: str, campaign_seed: int) -> None:
    """The platform reaches the services with every request that the schema allows; the others are refused some.

    With other requests for each commit.
    """
    import schemathesis.engine
    from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

    openapi = _load(funded_api, role, EXAMPLES[profile], campaign_seed)
    calls: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    failures: list[str] = []
    for event in schemathesis.engine.from_schema(openapi).execute():
        if isinstance(event, ScenarioFinished):
            phases[event.phase.value] += len(event.recorder.interactions)
            for interaction in event.recorder.interactions.values():
                calls[str(interaction.response.status_code if interaction.response else None)] += 1
            for nodes in event.recorder.checks.values():
                for node in nodes:
                    if node.failure_info is not None:
                        failures.append(f"{event.phase}: {node.failure_info.failure}\n{node.failure_info.code_sample}")
        elif isinstance(event, NonFatalError | FatalError):
            failures.append(str(event))
    by_status = dict(sorted(calls.items()))
    sys.stdout.write(f"{role}: {calls.total()} calls, by phase: {dict(phases)}, by status: {by_status}\n")
    assert not failures, f"{len(failures)} failures\n\n" + "\n\n".join(failures[:5])
    assert STATUSES[role] <= set(calls)
    assert calls["201"] + calls["202"]


def _load(api: ApiEnvironment, role: str, examples: int, seed: int) -> OpenApiSchema:
    """Returns the schema, which calls as a user of this role, and mixes existing ids into the generated requests."""
    import schemathesis
    import schemathesis.openapi
    from schemathesis.config import SchemathesisConfig
    from schemathesis.openapi.checks import RejectedPositiveData

    caller: ApiUser = getattr(api, role)
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "headers": {"Authorization": f"Bearer {issue_token(SECRET, caller.id, caller.role, DAY)}"},
            "checks": {
                "use_after_free": {"enabled": False},  # DELETE cancels, and erases nothing
                "negative_data_rejection": {"expected-statuses": REFUSALS},
            },
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
        }
    )
    openapi = schemathesis.openapi.from_asgi("/openapi.json", api.client.app, config=config)
    runs = [api.open_run(seats=200) for _ in range(4)]
    bookings = [api.book(run) for run in runs]
    known_values: dict[str, list[Any]] = {
        "event_run_id": [run["id"] for run in runs],
        "booking_id": [booking["id"] for booking in bookings],
        "experience_id": [str(api.experience)],
        "host_id": [str(api.host.id)],
        "user_id": [str(api.attendee.id)],
        "starts_at": [runs[0]["starts_at"]],
        "max_seats": [1, 200],
        "seats": [1, 2],
        "limit": [1, 200],
    }
    operations = caller.get("/operations?limit=2").json()
    known_texts = {"key": operations["items"] and operations["items"][0]["key"], "cursor": operations["next"]}

    def familiar(values: Any) -> Any:
        """Replaces most valid values by existing ones."""
        if not isinstance(values, dict):
            return values
        drawn = {name: _drawn(values[name]) for name in known_values.keys() & values.keys()}
        chosen = {name: known_values[name][n % 8 % len(known_values[name])] for name, n in drawn.items() if n and n % 8}
        for name, text in known_texts.items():  # every second valid one, by its length, as a generated one is in no row
            value = values.get(name)
            if text and isinstance(value, str) and len(value) % 2 and re.fullmatch(r"[\w.~:-]+", value, re.ASCII):
                chosen[name] = text
        return values | chosen

    def unforeseen(context: object, failure: Failure, case: object, response: Any) -> bool:
        """Ignores refusals that a schema can't express: a time before 1970, a run that is not on chain yet."""
        return not (isinstance(failure, RejectedPositiveData) and "errors" not in response.json())

    def documents_code(context: object, response: Any, case: Any) -> None:
        """Fails if a refusal has a code that the document does not name for this route and status."""
        if "problem+json" in response.headers.get("content-type", [""])[0]:
            code = response.json()["code"]
            documented = case.operation.definition.raw["responses"].get(str(response.status_code), {})
            assert code in documented.get("x-problem-codes", OF_NO_ROUTE), f"{code} is not documented"

    schemathesis.check(documents_code)
    openapi.hook("filter_failure")(unforeseen)
    openapi.hook("map_path_parameters")(lambda context, path_parameters: familiar(path_parameters))
    openapi.hook("map_query")(lambda context, query: familiar(query))
    openapi.hook("map_body")(lambda context, body: familiar(body))
    return openapi


def _drawn(value: Any) -> int | None:
    """Returns a number that stands for a value; None for one that is not valid."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 < value < 2**31 else None
    with suppress(ValueError, AttributeError, TypeError):
        return int(value[17:19]) if RFC_3339.fullmatch(value) else UUID(value).int
    return None
