"""A scenario is data: actors, the contract's terms, a price model, and actions with their times.

Scripted, random, shrunk and replayed scenarios are one type and one file format (YAML). `load` and `dump` are each
other's inverse; the errors of a file are one `InputError` with file, line and field of each.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from stakesim.prices.formula_paths import RateAt
from stakesim.prices.price_models import Constant, PriceModel
from stakesim.prices.price_paths import rate_path
from stakesim.scenario.actions import (
    ACTOR_FIELDS,
    PLATFORM,
    Action,
    Actor,
    AnyAction,
    Book,
    CallFunction,
    Complete,
    CreateRun,
    ForceEther,
    ScriptReceiver,
    Terms,
    Withdraw,
)
from stakesim.scenario.administration import Administration
from stakesim.schema import yaml_file
from stakesim.schema.errors import FieldError, FieldErrors, FieldPath, FileError, place, suggestion
from stakesim.schema.fields import Count, Label, StrictModel, Wei, format_time

PAUSE = 60
"""Seconds between an action without a time and the action before it."""


def _check_name(name: str) -> str:
    if not all((part.isalnum() and part.islower()) or part.isdigit() for part in name.split("-")):
        raise ValueError(f"{name!r} is not a name; write small letters and digits joined by -, like the file's name")
    return name


class Scenario(StrictModel):
    """A scenario.

    Attributes:
        name: Small letters and digits joined by hyphens; the name of the scenario's file.
        story: What happens, in a sentence.
        terms: The terms that the contract is deployed with.
        price: The market's price model.
        seed: The seed of a random scenario.
        strict: Whether an action without `fails` must succeed. In a random scenario the model alone decides.
        actors: The actors by name, without the platform.
        actions: The actions in their order.
        received: Wei that each actor receives over the whole scenario, pushed or as a credit, which counts when it
            arises. The platform's fees count when they are withdrawn.
        origin: Where a random, shrunk or replayed scenario comes from.
    """

    name: Annotated[str, AfterValidator(_check_name)]
    story: str
    terms: Terms = Terms()
    price: PriceModel = Constant()
    seed: Count = 0
    strict: bool = True
    actors: dict[Label, Actor]
    actions: tuple[AnyAction, ...]
    received: dict[Label, Wei] = Field(default_factory=dict)
    origin: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if errors := list(_contradictions(self)):
            raise FieldErrors(errors)
        return self

    def timeline(self) -> list[tuple[int, Action]]:
        """Each action with its time in seconds from the scenario's start.

        Times of blocks must rise, so an action that is not later than the one before it happens one second after it.
        """
        timeline: list[tuple[int, Action]] = []
        for action in self.actions:
            previous = timeline[-1][0] if timeline else None
            at = action.at if action.at is not None else (0 if previous is None else previous + PAUSE)
            timeline.append((at if previous is None else max(at, previous + 1), action))
        return timeline

    def rate_path(self) -> RateAt:
        """The market's rate at each second from the scenario's start; `set_price` overrides it for the price feed."""
        return rate_path(self.price)


# Checks of one field against another


def _contradictions(scenario: Scenario) -> Iterator[FieldError]:
    if PLATFORM in scenario.actors:
        yield FieldError(("actors", PLATFORM), "the platform is always there; leave it out, or take another name")
    yield from _received_errors(scenario)
    yield from _label_errors(scenario)
    yield from _time_errors(scenario)
    for index, action in enumerate(scenario.actions):
        yield from actor_errors(scenario.actors, index, action)
    if scenario.actions and getattr(scenario.actions[-1], "pending", False):
        path = ("actions", len(scenario.actions) - 1, "pending")
        yield FieldError(path, "it waits for the next action's transaction, and there is none; add one after it")


def _received_errors(scenario: Scenario) -> Iterator[FieldError]:
    for name, wei in scenario.received.items():
        path = ("received", name)
        if wei < 0:
            yield FieldError(path, f"is {wei}; write 0 or more, for nobody gets less than nothing")
        if name == PLATFORM:
            continue
        if name not in scenario.actors:
            yield _missing(path, "actor", name, scenario.actors)
        elif scenario.actors[name].wallet == "none":
            yield FieldError(path, f"{name} has no wallet, the platform gets it; name `platform` instead")


def _label_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Every run and booking has a label of its own, and every label in an action exists."""
    labels: dict[str, dict[str, int]] = {"run": {}, "booking": {}}
    for index, action in enumerate(scenario.actions):
        if isinstance(action, CreateRun | Book):
            field = "run" if isinstance(action, CreateRun) else "booking"
            label, taken = getattr(action, field), labels[field]
            if label in taken:
                message = f"{label!r} is taken by actions[{taken[label]}]; give each one a name of its own"
                yield FieldError(("actions", index, field), message)
            taken.setdefault(label, index)
    for index, action in enumerate(scenario.actions):
        for field, names in labels.items():
            if (label := getattr(action, field, None)) is not None and label not in names:
                yield _missing(("actions", index, field), field, label, names)
        for position, label in enumerate(action.attended if isinstance(action, Complete) else ()):
            if label not in labels["booking"]:
                yield _missing(("actions", index, "attended", position), "booking", label, labels["booking"])


def _time_errors(scenario: Scenario) -> Iterator[FieldError]:
    """No action is before an earlier one of the list. Several may have the same time."""
    latest, latest_index = 0, 0
    for index, action in enumerate(scenario.actions):
        at = action.at if action.at is not None else (latest + PAUSE if index else 0)
        if at < latest:
            message = (
                f"{format_time(at)} is before {format_time(latest)}, when actions[{latest_index}] happens; write the "
                "actions in the order of their times"
            )
            yield FieldError(("actions", index, "at"), message)
        else:
            latest, latest_index = at, index


def actor_errors(actors: Mapping[str, Actor], index: int, action: Action) -> Iterator[FieldError]:
    """Every actor in an action exists, and can sign a transaction that they must sign themselves.

    Args:
        actors: The scenario's.
        index: Of the action in the scenario.
        action: The action.
    """
    all_actors = {**actors, PLATFORM: Actor()}
    named = {field: name for field in ACTOR_FIELDS if (name := getattr(action, field, None)) is not None}
    if unknown := {field: name for field, name in named.items() if name not in all_actors}:
        for field, name in unknown.items():
            yield _missing(("actions", index, field), "actor", name, all_actors)
        return
    payer = getattr(action, "paid_by", None)
    field, by = ("paid_by", payer) if payer else ("by", getattr(action, "by", None) or PLATFORM)
    actor = all_actors[by]
    has_no_wallet = f"{by} has no wallet and signs nothing"

    def error(field: str, message: str) -> FieldError:
        return FieldError(("actions", index, field), message)

    if getattr(action, "payment", "in_time") != "in_time" and actor.pays == "self":
        yield error("payment", f"{by} pays wei, and no INR; leave out `payment`")
    if isinstance(action, ScriptReceiver) and actor.receiver != "scripted":
        yield error("by", f"{by} can't be told what to do; give it `receiver: scripted`")
    if isinstance(action, ForceEther) and actor.is_contract:
        yield error("by", f"{by} is a contract and signs nothing; name another actor")
    if isinstance(action, ForceEther | CallFunction) and actor.wallet == "none":
        yield error("by", f"{has_no_wallet}; name another actor")
    if (payer or isinstance(action, Administration)) and actor.wallet == "none":
        yield error(field, f"{has_no_wallet}; name another actor")
    if getattr(action, "direct", False) and actor.wallet == "none":
        advice = "leave out `direct`" if isinstance(action, Withdraw) else "leave out `direct`, or name another actor"
        yield error("direct", f"{has_no_wallet}; {advice}")


def _missing(path: FieldPath, kind: str, name: str, names: Iterable[str]) -> FieldError:
    return FieldError(path, f"there is no {kind} {name!r}; {suggestion(name, names)}")


# Files


def load(file: str | Path) -> Scenario:
    """Reads a scenario from a YAML file that has the scenario's name.

    Raises:
        InputError: The file can't be read, is no valid scenario, or has no actions.
    """
    scenario: Scenario = yaml_file.load_named(file, Scenario, "scenario file")
    if not scenario.actions:
        where = place(file, yaml_file.line_in_file(Path(file), ("actions",)), "actions")
        raise FileError(f"{where}: is empty; write at least one, as a scenario of none does nothing")
    return scenario


def loads(text: str, source: str = "scenario") -> Scenario:
    """Reads a scenario from YAML; it may have no actions.

    Args:
        text: The YAML.
        source: Its name for errors.

    Raises:
        InputError: The text is no valid scenario.
    """
    return yaml_file.read(text, source, Scenario)


def dump(scenario: Scenario) -> str:
    """Writes a scenario as YAML, without the fields that have their default."""
    data = scenario.model_dump(exclude_defaults=True, exclude={"actions"})
    data["actions"] = [_action_fields(action) for action in scenario.actions]
    if "price" in data:
        data["price"] = {"path": scenario.price.path, **data["price"]}
    order = [name for name in Scenario.model_fields if name in data]
    return yaml_file.write({name: data[name] for name in order})


def _action_fields(action: Action) -> dict[str, Any]:
    """The fields of an action in the order in which they are written: time and kind first, modifiers last."""
    fields = action.model_dump(exclude_defaults=True)
    first = {"at": fields.pop("at", None), "do": action.do}
    modifiers = (
        *("direct", "paid_by", "pending", "retried", "answer_lost", "reorganised"),
        *("value_off", "payment", "feed_moves", "fails"),
    )
    last = {name: fields.pop(name, None) for name in modifiers}
    return {name: value for name, value in {**first, **fields, **last}.items() if value is not None}


def json_schema() -> dict[str, Any]:
    """The file format as JSON schema, for editors. It does not check references between fields, which `load` does."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}


if __name__ == "__main__":
    import json
    import sys

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
