"""`stakesim bench`: figures of real lifecycles, and reasons for what can't be measured."""

import json
import sys
import threading

import pytest
from stakesim.bench import call_count, contenders, full_path, guided_search, ratios, results_page, sweeps
from stakesim.bench.contenders import BASE, FAST_BASE, Contender
from stakesim.commands.cli import cli
from stakesim.population import outcomes
from stakesim.population.exact_int import INT64_LIMIT
from stakesim.population.population import draw
from typer.testing import CliRunner


@pytest.mark.slow
def test_contenders_are_compared_with_the_bare_loop(tmp_path, monkeypatch):
    raw = next(contender for contender in contenders.all_contenders() if contender.name == "raw pyrevm")
    bare = Contender(BASE, "for the test: raw pyrevm too", raw.command, 50)
    absent = Contender("absent", "nothing", [tmp_path / "python"], 1)
    broken = Contender("broken", "nothing", [*raw.command, "--no-such-option"], 1)
    monkeypatch.setattr(contenders, "all_contenders", lambda: [bare, raw, absent, broken])
    result = CliRunner().invoke(
        cli, ["bench", "--rounds", "2", "--scale", "0.02", "--no-growth", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "RESULTS.md").read_text()
    assert len(raw.rates) == len(bare.rates) == 2
    assert min(raw.rates) > 100
    assert f"| {BASE} |" in page
    assert "| absent | nothing | not installed: make -C benchmarks/peers |" in page
    assert "unrecognized arguments: --no-such-option" in page
    assert (tmp_path / "contenders.svg").stat().st_size > 1_000


def test_ratios_to_the_faster_loop_are_given_only_if_it_was_measured():
    base, fast, other = (
        Contender(name, "", [], 1, rates=[rate]) for name, rate in ((BASE, 10), (FAST_BASE, 20), ("x", 30))
    )
    assert "| x |  | 30.0 | 3.00 | 1.50 |" in results_page.page([base, fast, other], 1, None)
    assert "| x |  | 30.0 | 3.00 |  |" in results_page.page([base, other], 1, None)


def test_without_a_bare_loop_there_are_no_ratios(monkeypatch, tmp_path):
    monkeypatch.setattr(contenders, "all_contenders", lambda: [Contender(BASE, "", [tmp_path / "python"], 1)])
    result = CliRunner().invoke(cli, ["bench", "--rounds", "1"])
    assert result.exit_code == 2
    assert "the bare loop can't be measured: not installed" in result.output


@pytest.mark.parametrize(
    ("rates", "code", "says"),
    [
        ([30.0, 15.0], 0, "1 ratios compared, 0 worse"),  # as before: the machine was half as fast in the second round
        ([25.4, 25.4], 1, "stakesim is slower: 1.91 times the bare loop, and was 3 times (-36%)"),
        ([40.0, 20.0], 0, "1 ratios compared, 0 worse"),
        ([], 1, "stakesim can't be measured: gone"),
    ],
)
def test_a_loss_of_speed_is_found_and_a_slow_machine_is_none(rates, code, says, monkeypatch, tmp_path):
    def contender(name, rates):
        one = Contender(name, "", [], 1, rates=rates, trouble="" if rates else "gone")
        monkeypatch.setattr(one, "run_round", lambda scale: None)
        return one

    def run(*options):
        return CliRunner().invoke(cli, ["bench", "--no-growth", *options])

    chosen = [contender(BASE, [10.0, 5.0]), contender("stakesim", [30.0, 15.0]), contender("a peer", [9.0, 9.0])]
    ratios.write(chosen, tmp_path / ratios.FILE)
    assert ratios.read(tmp_path / ratios.FILE) == {"stakesim": 3.0}
    base = [10.0, 20.0] if rates == [25.4, 25.4] else [10.0, 5.0]
    now = [contender(BASE, base), contender("stakesim", rates), contender("a peer", [1.0, 1.0])]
    monkeypatch.setattr(contenders, "all_contenders", lambda: now)
    result = run("--check", str(tmp_path))
    assert (result.exit_code, says in result.output) == (code, True), result.output


def test_calls_of_this_thread_and_of_new_ones_are_counted():
    with call_count.count_calls() as so_far:
        begin = so_far()
        sorted([abs(-1)])
        here = so_far() - begin
        thread = threading.Thread(target=lambda: [abs(number) for number in range(100)])
        thread.start()
        thread.join()
        assert here in (3, 4)  # and the call that asks for it
        assert so_far() - begin > 100
    assert sys.getprofile() is None


def test_a_loss_of_calls_is_found(monkeypatch, tmp_path):
    def contender(name, calls, *, counts=True):
        one = Contender(name, "", [], 1, counts_calls=counts)
        monkeypatch.setattr(one, "_run", lambda *options: {"transactions": 2, "calls": 2 * calls})
        return one

    def run(calls, *options):
        chosen = [contender(BASE, 1_000), contender("stakesim", calls), contender("on a node", 1, counts=False)]
        monkeypatch.setattr(contenders, "all_contenders", lambda: chosen)
        return CliRunner().invoke(cli, ["bench", "--calls", *options])

    tmp_path /= "new"
    assert run(100, "--out", str(tmp_path)).exit_code == 0
    assert ratios.read(tmp_path / ratios.CALLS_FILE) == {"stakesim": 10.0}
    assert run(115, "--check", str(tmp_path)).exit_code == 0
    lost = run(120, "--check", str(tmp_path))
    assert "120 calls a transaction,  8.33 to the bare loop: stakesim" in lost.output
    assert (lost.exit_code, "stakesim is slower: 8.33 times the bare loop" in lost.output) == (1, True)


@pytest.mark.slow
def test_a_lifecycle_takes_the_same_calls_each_time():
    one, other = (full_path.lifecycles("revm", 1, calls=True)["calls"] for _ in range(2))
    assert abs(one - other) < 0.01 * one


@pytest.mark.parametrize("text", [None, "[]", '{"stakesim": "fast"}', '{"stakesim": 0}', "{"])
def test_ratios_that_are_missing_or_wrong_are_a_sentence(text, tmp_path):
    if text is not None:
        (tmp_path / ratios.FILE).write_text(text)
    result = CliRunner().invoke(cli, ["bench", "--check", str(tmp_path)])
    assert result.exit_code != 0
    assert f"stakesim bench --out {tmp_path}" in str(result.exception) + result.output


@pytest.mark.parametrize("wrong", ["HOST_GETS", "PLATFORM_GETS", "STAKE"])
def test_a_peer_with_wrong_payouts_fails(wrong, monkeypatch):
    monkeypatch.syspath_prepend(str(contenders.PEERS))
    import lifecycle

    payouts = ([lifecycle.STAKE] * 5, [0], lifecycle.HOST_GETS, lifecycle.PLATFORM_GETS)
    lifecycle.check(*payouts)
    monkeypatch.setattr(lifecycle, wrong, getattr(lifecycle, wrong) + 1)
    with pytest.raises(SystemExit, match="the payouts are"):
        lifecycle.check(*payouts)


@pytest.mark.slow
def test_growth_is_measured():
    figures = full_path.lifecycles("revm", 1)
    assert figures["transactions"] == 8
    assert json.loads(json.dumps(figures)) == figures
    assert [size for size, ms in full_path.by_attendees("revm", [1, 3]) if ms > 0] == [1, 3]
    assert [height for height, ms in full_path.by_height("revm", [5], 1) if ms > 0] == [5]
    assert [total for total, ms in full_path.by_length("revm", 16, 8) if ms > 0] == [8, 16]


@pytest.mark.slow
def test_a_booking_is_profiled():
    parts = full_path.profile("revm", 1)
    assert parts["signing"][0] == 1
    # 5 to book, 8 to pay for it, and 2 of rows()
    assert parts["database: SQLAlchemy"][0] == parts["database: in the driver and the server"][0] == 13


def test_time_of_inner_parts_counts_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(full_path.time, "perf_counter", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    clock = full_path.Clock()
    clock.on = True
    inner = clock.timed("inner", lambda: passes(2))
    clock.timed("outer", lambda: (passes(1), inner(), inner()))()
    assert dict(clock.spent) == {"inner": [2, 4.0], "outer": [1, 1.0]}


def test_the_peers_run_the_same_lifecycle(monkeypatch):
    monkeypatch.syspath_prepend(str(contenders.PEERS))
    import lifecycle

    scenario = full_path.load(full_path.LIFECYCLE)
    attendees = [scenario.received[name] for name in "abcdef"]
    assert scenario.received["host"] == lifecycle.HOST_GETS
    assert attendees == [lifecycle.STAKE] * lifecycle.ATTENDED + [0] * (lifecycle.SEATS - lifecycle.ATTENDED)
    assert len(scenario.actions) == lifecycle.TRANSACTIONS
    assert scenario.terms.as_struct() == lifecycle.TERMS
    forge = (contenders.PEERS / "forge" / "test" / "Lifecycle.t.sol").read_text()
    stake_bps, fee_bps, forfeit_bps, cutoff, grace = scenario.terms.as_struct()
    days = f"{cutoff // 86_400} days, {grace // 86_400} days"
    assert f"Terms({stake_bps:_}, {fee_bps}, {forfeit_bps}, {days})" in forge


@pytest.mark.slow
def test_the_guided_search_counts_its_calls():
    figures = guided_search.search(20)
    assert figures["transactions"] >= 20 * guided_search.CALLS
    assert figures["seconds"] > 0


@pytest.mark.slow
def test_sweeps_and_settlements_count_their_bookings(monkeypatch):
    monkeypatch.setattr(outcomes, "RUNS_IN_NUMPY", outcomes.RUNS_IN_NUMPY)  # the benchmark sets it
    small, large, whole = (sweeps.measure(what, 1) for what in ("small", "large", "numpy"))
    assert 40_000 < small["transactions"] < 15 * sweeps.CHUNK_SIZE
    assert 40_000 < large["transactions"] < 15 * sweeps.CHUNK_SIZE
    assert 80_000 < whole["transactions"] < 2 * 15 * sweeps.CHUNK_SIZE
    assert all(figures["seconds"] > 0 for figures in (small, large, whole))
    limits = [draw(population, 1).state.price_wei * 3 for population in (sweeps.SMALL, sweeps.LARGE)]
    assert max(limits[0]) * 40 < INT64_LIMIT < min(limits[1]) * 10
