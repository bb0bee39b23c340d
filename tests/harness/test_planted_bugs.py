"""The planted bugs fit today's contract: each edit applies once, and what comes out compiles."""

import random

import pytest
from planted_bugs import bugs, planted, planted_together, replace_once, sound, together, yardstick
from stakesim.evm.compiler import CONTRACTS, Compiler, error_messages
from stakesim.evm.import_resolver import collect_sources
from stakesim.gate.plain_build import compile_plain

FILE = "EventStake.sol"
SAMPLE = {"quick": 4, "ci": 10}
EVERY = [*bugs(), *yardstick(), *together()]
"""Single bugs, and lists of bugs."""


def test_every_edit_applies_exactly_once():
    sources = [planted(name) for name in EVERY]
    assert sound() not in sources
    assert len(set(sources)) == len(sources)


def test_an_edit_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="exactly once"):
        replace_once(sound(), "run.maxSeats = uint16(maxSeats);", "")
    with pytest.raises(ValueError, match="exactly once"):
        replace_once(sound(), "_checkAuthorized(run.host);", "")
    with pytest.raises(ValueError, match="exactly once"):
        planted_together(["create-for-by-anyone", "create-for-by-anyone"])


def test_every_bug_says_what_goes_wrong():
    for bug in [*bugs().values(), *yardstick().values()]:
        assert bug.kind, bug
        assert bug.wrong.endswith("."), bug
    assert len(bugs()) >= 180
    assert len({bug.kind for bug in bugs().values()}) >= 15


@pytest.mark.in_turn
@pytest.mark.slow
def test_planted_contracts_compile_and_differ(profile, campaign_seed):
    """A sample of them, another one for each commit; all of them in the deep profile."""
    size = SAMPLE.get(profile, len(EVERY))
    names = random.Random(campaign_seed).sample(EVERY, size)
    sources = collect_sources(CONTRACTS / FILE)
    codes = []
    with Compiler() as compiler:
        for name in [None, *names]:
            source = sound() if name is None else planted(name)
            output = compile_plain(compiler, {**sources, FILE: source}, FILE)
            assert not error_messages(output.get("errors", ())), name
            codes.append(output["contracts"][FILE]["EventStake"]["evm"]["bytecode"]["object"])
    assert len(set(codes)) == len(codes), "two contracts are the same program"
