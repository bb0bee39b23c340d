"""A scenario is data: actors, the contract's terms, a price path, and actions with their times.

Scripted, random, shrunk and replayed scenarios are this one type and this one file format (YAML). `load` and `dump`
are each other's inverse; what is wrong with a file is one `ScenarioError` with file, line and field.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from stakesim.prices.formula_paths import RateAt
from stakesim.prices.price_models import Constant, PriceModel
from stakesim.prices.price_paths import rate_path
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Actor,
    AnyAction,
    Book,
    CallFunction,
    CreateRun,
    ForceEther,
    Terms,
    Withdraw,
)
from stakesim.schema import yaml_file
from stakesim.schema.fields import Label, StrictModel, Wei
from stakesim.schema.yaml_file import FieldError, ScenarioError, nearest

__all__ = ["Scenario", "ScenarioError", "dump", "json_schema", "load", "loads"]

PAUSE = 60
"""Seconds between an action and the one before it, where the file gives no time."""


def _kebab(name: str) -> str:
    if not all((part.isalnum() and part.islower()) or part.isdigit() for part in name.split("-")):
        raise ValueError(f"{name!r} is not a name; write small letters and digits joined by -, like the file's name")
    return name


class Scenario(StrictModel):
    """strict: an action without `fails` must succeed; in random scenarios the model alone decides.

    received: wei that each actor gets over the whole scenario, pushed or as a credit (counted when it arises); the
        platform's fees count when they are withdrawn.
    origin: where a random, shrunk or replayed scenario comes from.
    """

    name: Annotated[str, AfterValidator(_kebab)]
    story: str
    terms: Terms = Terms()
    price: PriceModel = Constant()
    seed: Annotated[int, Field(ge=0)] = 0
    strict: bool = True
    actors: dict[Label, Actor]
    actions: tuple[AnyAction, ...]
    received: dict[Label, Wei] = Field(default_factory=dict)
    origin: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _references(self) -> Self:
        if PLATFORM in self.actors:
            raise FieldError(("actors", PLATFORM), "the platform is always there; leave it out, or take another name")
        _check_received(self)
        _check_labels(self)
        for index, action in enumerate(self.actions):
            _check_actors(self.actors, index, action)
        if self.actions and getattr(self.actions[-1], "pending", False):
            at = ("actions", len(self.actions) - 1, "pending")
            raise FieldError(at, "it waits for the next action's transaction, and there is none; add one after it")
        return self

    def timeline(self) -> list[tuple[int, Action]]:
        """Each action with its time in seconds from the start. Blocks have strictly rising times, so an action that is
        not later than the one before it lands one second after it."""
        timed: list[tuple[int, Action]] = []
        for action in self.actions:
            before = timed[-1][0] if timed else None
            at = action.at if action.at is not None else (0 if before is None else before + PAUSE)
            timed.append((at if before is None else max(at, before + 1), action))
        return timed

    def rate_path(self) -> RateAt:
        """INR per ETH on the market at a time in seconds from the start; `set_price` overrides it for the feed."""
        return rate_path(self.price)


# Checks of one field against others


def _check_received(scenario: Scenario) -> None:
    for name, wei in scenario.received.items():
        at = ("received", name)
        if wei < 0:
            raise FieldError(at, f"is {wei}; write 0 or more, for nobody gets less than nothing")
        if name != PLATFORM:
            _known(at, "actor", name, scenario.actors)
            if scenario.actors[name].wallet == "none":
                raise FieldError(at, f"{name} has no wallet, the platform gets it; name `platform` instead")


def _check_labels(scenario: Scenario) -> None:
    """Runs and bookings are named once, and only those are spoken of."""
    runs: dict[str, int] = {}
    bookings: dict[str, int] = {}
    for index, action in enumerate(scenario.actions):
        if isinstance(action, CreateRun):
            _new(("actions", index, "run"), action.run, runs)
            runs[action.run] = index
        elif isinstance(action, Book):
            _new(("actions", index, "booking"), action.booking, bookings)
            bookings[action.booking] = index
    for index, action in enumerate(scenario.actions):
        for field, what, labels in (("run", "run", runs), ("booking", "booking", bookings)):
            if (label := getattr(action, field, None)) is not None:
                _known(("actions", index, field), what, label, labels)
        for position, label in enumerate(getattr(action, "attended", ())):
            _known(("actions", index, "attended", position), "booking", label, bookings)


def _check_actors(actors: Mapping[str, Actor], index: int, action: Action) -> None:
    known = {**actors, PLATFORM: Actor()}
    for field in ("by", "to"):
        if (name := getattr(action, field, None)) is not None:
            _known(("actions", index, field), "actor", name, known)
    actor = known.get(getattr(action, "by", None) or PLATFORM, Actor())
    if isinstance(action, ForceEther | CallFunction) and (actor.wallet == "none" or actor.is_contract):
        why = "is a contract" if actor.is_contract else "has no wallet"
        raise FieldError(("actions", index, "by"), f"{action.by} {why} and signs nothing; name another actor")
    if getattr(action, "direct", False) and actor.wallet == "none":
        advice = "leave out `direct`" if isinstance(action, Withdraw) else "leave out `direct`, or name another actor"
        by = getattr(action, "by", "")
        raise FieldError(("actions", index, "direct"), f"{by} has no wallet and signs nothing; {advice}")


def _new(at: tuple[str | int, ...], label: str, taken: Mapping[str, int]) -> None:
    if label in taken:
        raise FieldError(at, f"{label!r} is taken by actions[{taken[label]}]; give each one a name of its own")


def _known(at: tuple[str | int, ...], what: str, name: str, names: Mapping[str, object]) -> None:
    if name not in names:
        raise FieldError(at, f"there is no {what} {name!r}; {nearest(name, names)}")


# Files


def load(file: str | Path) -> Scenario:
    """The scenario in a file, whose name is the scenario's. Raises ScenarioError, for one without actions too."""
    scenario: Scenario = yaml_file.load_named(file, Scenario, "scenario file")
    if not scenario.actions:
        line = yaml_file.line_of(Path(file).read_text(encoding="utf-8"), ("actions",))
        raise ScenarioError(
            f"{file}, line {line}, actions: is empty; write at least one, as a scenario of none does nothing"
        )
    return scenario


def loads(text: str, source: str = "scenario") -> Scenario:
    """The scenario in a text. source: what to call it in a ScenarioError."""
    return yaml_file.read(text, source, Scenario)


def dump(scenario: Scenario) -> str:
    """The scenario as a YAML file; what is the default is left out."""
    data = scenario.model_dump(exclude_defaults=True, exclude={"actions"})
    data["actions"] = [_action_fields(action) for action in scenario.actions]
    if "price" in data:
        data["price"] = {"path": scenario.price.path, **data["price"]}
    order = [name for name in Scenario.model_fields if name in data]
    return yaml_file.write({name: data[name] for name in order})


def _action_fields(action: Action) -> dict[str, Any]:
    """When, what, the rest, and last how it fails."""
    given = action.model_dump(exclude_defaults=True)
    first = {"at": given.pop("at", None), "do": action.do}
    last = {
        name: given.pop(name, None) for name in ("direct", "pending", "retried", "answer_lost", "value_off", "fails")
    }
    return {name: value for name, value in {**first, **given, **last}.items() if value is not None}


def json_schema() -> dict[str, Any]:
    """The file format as JSON schema, for editors; references between fields are checked by `load` alone."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}


if __name__ == "__main__":
    import json

    print(json.dumps(json_schema(), indent=2))  # noqa: T201
