"""The scenario format: reading, writing, and the error messages for mistakes."""

import json
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from stakesim.model.rehearsal import disagreements, rehearse
from stakesim.scenario.actions import Book, CreateRun, SetPrice
from stakesim.scenario.administration import Administration
from stakesim.scenario.scenario import Scenario, dump, json_schema, load, loads
from stakesim.schema.errors import InputError
from stakesim.schema.fields import format_time, parse_time

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SCENARIO_FILES = sorted(SCENARIOS.glob("*.yaml"))
VALIDATOR = Draft202012Validator(json_schema())

EXAMPLE = """\
name: example
story: An example.
price: {path: steps, rates: [{at: 0, inr_per_eth: "200000"}, {at: 1d, inr_per_eth: "100000"}]}
actors:
  host: {}
  guest: {pays: self}
  thief: {receiver: reenters, reenter: {call: cancelBooking}}
  poor: {wallet: none}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 4, starts: 7d}
  - {do: book, booking: g1, run: gig, by: guest, seats: 2}
  - {at: 6d + 1s, do: cancel_booking, booking: g1, fails: TooLate}
  - {at: 7d, do: complete, run: gig, attended: [g1]}
received: {guest: "40000000000000000"}
origin: {profile: calm, seed: 3}
"""


# The files in scenarios/


@cache
def scenario_in(file: Path) -> Scenario:
    return load(file)


@pytest.mark.slow
@pytest.mark.parametrize("file", SCENARIO_FILES, ids=lambda file: file.stem)
class TestScenarioFile:
    def test_agrees_with_the_rules(self, file: Path) -> None:
        assert list(disagreements(scenario_in(file))) == []

    def test_is_strict_and_closes_every_run(self, file: Path) -> None:
        scenario = scenario_in(file)
        assert scenario.strict
        assert all(not run.open for run in rehearse(scenario)[-1].state.runs.values())

    def test_is_valid_by_the_schema_and_refers_to_it(self, file: Path) -> None:
        text = file.read_text()
        assert text.startswith("# yaml-language-server: $schema=schema.json\n")
        VALIDATOR.validate(yaml.safe_load(dump(scenario_in(file))))

    def test_is_the_same_when_written_and_read_again(self, file: Path) -> None:
        scenario = scenario_in(file)
        assert loads(dump(scenario)) == scenario


@pytest.mark.slow
def test_the_files_reach_every_status_and_error() -> None:
    """Together they end runs in each way and see every error.

    Excepted are an impossible price, which no INR price has, and an amount that is more wei than there are.
    """
    steps = [step for file in SCENARIO_FILES for step in rehearse(scenario_in(file))]
    assert len(SCENARIO_FILES) >= 15
    assert {run.status.name for step in steps for run in step.state.runs.values()} == {
        "ACTIVE",
        "FULL",
        "COMPLETED",
        "CANCELLED",
        "EXPIRED",
    }
    assert {step.outcome.error for step in steps} - {None} == {
        "PriceError",
        "PaymentTooSmall",
        "NotPaid",
        "PaymentUnusable",
        "NotAuthorized",
        "OwnableUnauthorizedAccount",
        "EnforcedPause",
        "ExpectedPause",
        "EventNotOpen",
        "BookingNotActive",
        "BookingNotOfRun",
        "TooEarly",
        "TooLate",
        "InvalidSeats",
        "InvalidStart",
        "NotEnoughSeats",
        "WrongValue",
        "NothingToWithdraw",
        "TransferFailed",
    }


def test_direct_actions_succeed_only_where_roles_change() -> None:
    """A backend has no part in those scenarios; in all others its database would not know what was created."""
    for file in SCENARIO_FILES:
        steps = rehearse(scenario_in(file))
        if not any(isinstance(step.action, Administration) for step in steps):
            for step in steps:
                assert not (getattr(step.action, "direct", False) and step.outcome.status == "ok"), file.stem


def test_the_committed_schema_is_current() -> None:
    assert json.loads((SCENARIOS / "schema.json").read_text()) == json_schema()


def test_a_wrong_expectation_is_a_disagreement() -> None:
    wrong = EXAMPLE.replace("fails: TooLate", "by: guest").replace('guest: "4', 'guest: "5')
    assert list(disagreements(loads(wrong))) == [
        (("actions", 2), "cancel_booking: expected ok, the model says TooLate"),
        (("received", "guest"), "expected 50000000000000000 wei, the model says 40000000000000000"),
    ]


# Times


def test_times_are_sums_of_parts() -> None:
    assert parse_time("7d - 1s") == 7 * 86_400 - 1
    assert parse_time("1d+2h+3m+4s") == 93_784
    assert parse_time("90") == parse_time(90) == 90


@given(st.integers(0, 2**45))
def test_a_time_is_read_as_it_was_written(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds


def test_the_timeline_rises_strictly() -> None:
    times = ["at: 0, ", "", "at: 60, ", "at: 60, ", "", "at: 1h, "]
    actions = "".join(f"  - {{{at}do: wait}}\n" for at in times)
    scenario = loads(f"name: x\nstory: x\nactors: {{}}\nactions:\n{actions}")
    assert [at for at, _ in scenario.timeline()] == [0, 60, 61, 62, 122, 3600]


# Reading and writing


def test_a_file_is_read_as_it_stands() -> None:
    scenario = loads(EXAMPLE)
    create = scenario.actions[0]
    assert isinstance(create, CreateRun)
    assert (create.starts, str(create.price_inr), scenario.received) == (604_800, "20000", {"guest": 4 * 10**16})
    assert scenario.strict
    assert scenario.origin == {"profile": "calm", "seed": 3}


def test_a_scenario_is_written_as_a_person_would() -> None:
    assert dump(loads(EXAMPLE)) == (
        "# yaml-language-server: $schema=schema.json\n"
        + EXAMPLE.replace('"', "'").replace("6d + 1s", "6d+1s").replace("'40000000000000000'", "40000000000000000")
    ).replace("  - {", "- {")


LABELS = ["no", "off", "y", "null", "true", "a1", "x-1"]


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.sampled_from(LABELS),
    st.text(),
    st.decimals(-(10**9), 10**9, places=3).map(str) | st.sampled_from(["NaN", "-Infinity"]),
    st.integers(1, 10**30),
)
def test_what_is_written_is_read_again(label: str, story: str, rate: str, off: int) -> None:
    """Also words that YAML takes for something else."""
    scenario = Scenario(
        name="x",
        story=story,
        actors={label: {"pays": "self"}},
        actions=(
            CreateRun(run=label, by=label, price_inr="1", seats=1, starts=100),
            Book(booking=label, run=label, by=label, seats=1, direct=True, value_off=-off),
            SetPrice(inr_per_eth=rate, age=5),
        ),
        received={label: off},
        origin={"finding": story},
    )
    assert loads(dump(scenario)) == scenario


# Mistakes


MISTAKES = [
    (
        '"20000"',
        '"1e99999999"',
        ":10: actions[0].price_inr: '1e99999999' is not a decimal number; write digits 0 to 9 in quotes (\"2500.50\")",
    ),
    (
        "seats: 4",
        "seats: four",
        ":10: actions[0].seats: is 'four'; write a whole number in the digits 0 to 9, without quotes",
    ),
    (
        "seats: 4",
        "seats: 4.5",
        ":10: actions[0].seats: is 4.5; write a whole number in the digits 0 to 9, without quotes",
    ),
    ("seats: 4", "seats: -4", ":10: actions[0].seats: is -4; write at least 0"),
    ("seats: 4, ", "", ":10: actions[0].seats: is missing; add `seats: ...`"),
    ("seats: 4", "seets: 4", ":10: actions[0].seets: is no field here; did you mean 'seats'?"),
    ("do: book", "do: bok", ":11: actions[1].do: there is no 'bok'; did you mean 'book'?"),
    ("do: book, ", "", ":11: actions[1].do: is missing; add `do: ...`"),
    (
        'price_inr: "20000"',
        "price_inr: 20000.5",
        ':10: actions[0].price_inr: 20000.5 is a float, which is not exact; put the number in quotes ("2500.50")',
    ),
    (
        'price_inr: "20000"',
        'price_inr: "0.001"',
        ':10: actions[0].price_inr: 0.001 has fractions of a paisa; write at most two decimals ("2500.50")',
    ),
    (
        'price_inr: "20000"',
        'price_inr: "0"',
        ':10: actions[0].price_inr: 0 is not a price; write an amount above zero ("2500.50")',
    ),
    (
        "starts: 7d",
        "starts: 7 days",
        ":10: actions[0].starts: '7 days' is not a time; "
        'write seconds (90) or a sum of parts in d, h, m, s ("7d - 1s")',
    ),
    (
        "starts: 7d",
        "starts: 40000d",
        ":10: actions[0]: the backend takes no date that far away; start within 36500d",
    ),
    ("at: 0, do", "at: -1, do", ":10: actions[0].at: -1 s is before the scenario begins; times count from 0"),
    (
        "run: gig, by: guest",
        "run: gag, by: guest",
        ":11: actions[1].run: there is no run 'gag'; did you mean 'gig'?",
    ),
    ("by: guest", "by: gest", ":11: actions[1].by: there is no actor 'gest'; did you mean 'guest'?"),
    (
        "by: guest",
        "by: xyz",
        ":11: actions[1].by: there is no actor 'xyz'; there are: host, guest, thief, poor, platform",
    ),
    ("attended: [g1]", "attended: [g2]", ":13: actions[3].attended[0]: there is no booking 'g2'; there are: g1"),
    ("attended: [g1]", "came: [g1]", ":13: actions[3].came: is now called `attended`; rename the field"),
    ("fails: TooLate", "fails: ToLate", ":12: actions[2].fails: can't be 'ToLate'; did you mean 'TooLate'?"),
    ("pays: self", "pays: me", ":6: actors.guest.pays: can't be 'me'; there are: platform, self"),
    (
        "{pays: self}",
        "{pays: self, wallet: none}",
        ":6: actors.guest: nobody pays for themselves without a wallet; leave out `pays: self` or `wallet: none`",
    ),
    (
        "{receiver: reenters, reenter: {call: cancelBooking}}",
        "{receiver: reenters}",
        ":7: actors.thief: `receiver: reenters` and `reenter: {call: ...}` go together; write both or neither",
    ),
    (
        "{receiver: reenters,",
        "{pays: self, receiver: reenters,",
        ":7: actors.thief: a hostile receiver is a contract and can't sign; leave out `pays: self`",
    ),
    ("host: {}", "host:", ":5: actors.host: is empty; write fields: {...}"),
    (
        "host: {}",
        "platform: {}",
        ":5: actors.platform: the platform is always there; leave it out, or take another name",
    ),
    (
        "host: {}",
        "The Host: {}",
        ":5: actors.The Host: 'The Host' is not a name; use small letters, digits, - and _, a letter first",
    ),
    ("host: {}", "3: {}", ":5: 3: is not text in YAML; put it in quotes"),
    (
        "path: steps",
        "path: stairs",
        ":3: price.path: there is no 'stairs'; there are: "
        "constant, steps, crash, gbm, merton, bootstrap, garch, series",
    ),
    ("{at: 1d, inr", "{at: 0, inr", ":3: price: the times of `rates` must rise; put them in order, each once"),
    (
        '"200000"',
        '"-3"',
        ':3: price.rates[0].inr_per_eth: -3 is not a rate; write INR per ETH above zero ("200000")',
    ),
    ("{guest:", "{gust:", ":14: received.gust: there is no actor 'gust'; did you mean 'guest'?"),
    (
        "{guest:",
        "{poor:",
        ":14: received.poor: poor has no wallet, the platform gets it; name `platform` instead",
    ),
    (
        '"40000000000000000"',
        "4.0",
        ':14: received.guest: 4.0 is not an amount in wei; write a whole number ("40000000000000000")',
    ),
    (
        "do: book,",
        "do: book, value_off: 1,",
        ":11: actions[1]: the backend never sends a wrong value; add `direct: true` or leave it out",
    ),
    (
        "do: book,",
        "do: book, pending: true,",
        ":11: actions[1]: the backend decides when its transactions are sent; add `direct: true` to `pending`",
    ),
    (
        "do: book,",
        "do: book, direct: true, retried: true,",
        ":11: actions[1]: a direct action does not ask the backend; leave out `retried` and `answer_lost`",
    ),
    (
        "do: cancel_booking, booking: g1, fails",
        "do: force_ether, wei: 1, by: thief, fails",
        ":12: actions[2].by: thief is a contract and signs nothing; name another actor",
    ),
    (
        "booking: g1, fails",
        "booking: g1, by: poor, direct: true, fails",
        ":12: actions[2].direct: poor has no wallet and signs nothing; leave out `direct`, or name another actor",
    ),
    (
        "  - {at: 7d",
        "  - {do: create_run, run: gig, by: host, price_inr: 1, seats: 1, starts: 9d}\n  - {at: 7d",
        ":13: actions[3].run: 'gig' is taken by actions[0]; give each one a name of its own",
    ),
    (
        "name: example",
        "name: An Example",
        ":1: name: 'An Example' is not a name; write small letters and digits joined by -, like the file's name",
    ),
    ("story: An example.\n", "", ":1: story: is missing; add `story: ...`"),
    ("story: An", "story: x\nstory: An", ":3: story: is given twice; keep one"),
    (
        "story: An example.",
        "terms: {stake_bps: 6000}\nstory: x",
        ":2: terms.stake_bps: is 6000; write at most 5000",
    ),
    (
        "story: An example.",
        "terms: {completion_grace: 1m}\nstory: x",
        ":2: terms.completion_grace: the contract takes 1h to 90d; write a time between them",
    ),
    (
        "story: An",
        "story: [An",
        ":3: is not YAML: expected ',' or ']', but got ':'; correct it there or just above",
    ),
    ("actors:", "actor:", ":4: actor: is no field here; did you mean 'actors'?"),
    (EXAMPLE, "", ":1: is not a mapping of fields; begin with `name: ...`"),
    (EXAMPLE, "- 1\n", ":1: is not a mapping of fields; begin with `name: ...`"),
]


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES, ids=[m[2][:60] for m in MISTAKES])
def test_a_mistake_is_named_with_file_line_and_field(right: str, wrong: str, message: str) -> None:
    assert right in EXAMPLE
    with pytest.raises(InputError) as error:
        loads(EXAMPLE.replace(right, wrong, 1), "scenarios/example.yaml")
    assert str(error.value).splitlines()[0] == f"scenarios/example.yaml{message}"


def test_a_file_has_its_scenario_s_name(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("# a comment\n" + EXAMPLE)
    with pytest.raises(InputError) as error:
        load(file)
    assert str(error.value) == f"{file}:2: name: 'example' is not the file's name; write `name: other`"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    with pytest.raises(InputError) as error:
        load(file)
    assert str(error.value) == f"{file}: can't be read: No such file or directory; give the path of a scenario file"
