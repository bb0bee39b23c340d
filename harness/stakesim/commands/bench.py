"""`stakesim bench`: contenders in turns, growth, and where the time of one booking goes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.errors import NotInstalled, StakesimError
from stakesim.paths import checkout

if TYPE_CHECKING:
    pass

ROOT = checkout() or Path()
PEERS = ROOT / "benchmarks" / "peers"
APE = PEERS / ".ape" / "bin" / "python"
PASS, TROUBLE = 0, 2
BASE = "bare web3.py loop on eth-tester/py-evm"


@dataclass
class Contender:
    """A program that plays lifecycles and prints its figures. lifecycles: how many in a round, at scale 1."""

    name: str
    does: str
    argv: list[str | Path]
    lifecycles: int
    environment: dict[str, str] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    """Transactions a second, by round."""
    versions: dict[str, str] = field(default_factory=dict)
    trouble: str = ""


def contenders() -> list[Contender]:
    python, full = Path(sys.executable), ["-m", "stakesim.bench.full_path"]
    everything = "services, database, model, invariants"
    bare: list[str | Path] = [python, PEERS / "web3_bare.py"]
    plain, fast = {"ETH_HASH_BACKEND": "pycryptodome"}, {"ETH_HASH_BACKEND": "pysha3"}
    return [
        Contender(BASE, "contract alone; keccak of a plain install", bare, 20, plain),
        Contender("the same with our fast keccak", "contract alone", bare, 20, fast),
        Contender("bare web3.py loop on anvil", "contract alone", [*bare, "--chain", "anvil"], 30, plain),
        Contender("stakesim on py-evm", everything, [python, *full, "py-evm"], 12),
        Contender("stakesim on revm", everything, [python, *full, "revm"], 40),
        Contender("stakesim on anvil", everything, [python, *full, "anvil"], 20),
        Contender(
            "stakesim on revm, over HTTP in process",
            f"API, each request twice, {everything}",
            [python, *full, "revm", "--driver", "api"],
            20,
        ),
        Contender(
            "the API served by uvicorn, on anvil",
            "API, services, database; bookings from 4 connections",
            [python, "-m", "benchmarks.over_http", "--json"],
            20,
        ),
        Contender("Ape's test provider", "contract alone", [APE, PEERS / "ape_provider.py"], 6),
        Contender("forge's invariant runner", "contract alone, in Solidity", [python, PEERS / "forge.py"], 2000),
        Contender(
            "raw pyrevm",
            "contract alone; no signatures, fees, receipts",
            [python, PEERS / "pyrevm_raw.py"],
            2000,
        ),
    ]


def _round(contender: Contender, scale: float) -> None:
    """One more figure of it, or why there is none."""
    count = max(1, round(contender.lifecycles * scale))
    argv = [str(part) for part in contender.argv]
    path = os.pathsep.join([str(ROOT), str(ROOT / "harness"), str(ROOT / "backend")])
    environment = os.environ | {"PYTHONPATH": path} | contender.environment
    try:
        done = subprocess.run(
            [*argv, "--lifecycles", str(count)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
        )
        told = json.loads(done.stdout.strip().splitlines()[-1])
        contender.rates.append(told["transactions"] / told["seconds"])
        contender.versions = told["versions"]
    except FileNotFoundError:
        contender.trouble = "not installed: make -C benchmarks/peers"
    except subprocess.TimeoutExpired:
        contender.trouble = "no end after 600 s"
    except (ValueError, IndexError, KeyError):
        contender.trouble = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:160]


def bench(
    rounds: Annotated[int, typer.Option(help="Rounds of all contenders, in turns; medians are shown.", min=1)] = 3,
    scale: Annotated[float, typer.Option(help="Lifecycles a round, as a multiple of the usual.", min=0.001)] = 1.0,
    only: Annotated[list[str] | None, typer.Option(help="Contenders whose name has this in it.")] = None,
    growth: Annotated[bool, typer.Option(help="Also growth with length, attendees and height, and -j 2.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for RESULTS.md and its plots.")] = None,
) -> None:
    """Measure the full path beside bare loops and other tools: one lifecycle, one machine, one run, ratios."""
    from rich.console import Console

    if checkout() is None:
        raise StakesimError("The benchmark's peers are in a checkout of stakesim, and not in its wheel: run it there.")
    console = Console(soft_wrap=True, highlight=False)
    field = [one for one in contenders() if not only or any(part in one.name for part in only) or one.name == BASE]
    with console.status("") as status:
        for number in range(rounds):
            for one in field:
                status.update(f"round {number + 1} of {rounds}: {one.name}")
                if not one.trouble:
                    _round(one, scale)
        if not field[0].rates:
            console.print(f"stakesim: the bare loop can't be measured: {field[0].trouble}", markup=False)
            raise typer.Exit(TROUBLE)
        figures: dict[str, Any] = {}
        if growth:
            for what, measured in _growth(scale):
                status.update(what)
                figures[what] = measured
    page = "\n".join(_page(field, rounds, figures))
    console.print(page, markup=False)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        _plots(field, figures, out)
        (out / "RESULTS.md").write_text(page + "\n")
        console.print(f"written: {out / 'RESULTS.md'}")
    raise typer.Exit(PASS)


def _growth(scale: float) -> Iterator[tuple[str, Any]]:
    """Each figure when it is measured. On revm: there the chain itself hides least."""
    from stakesim.bench import full_path
    from stakesim.campaign.campaign import run

    yield "profile", full_path.profile("revm", max(2, round(40 * scale)))
    sizes = [1, 5, 20, 50, 100, 200] if scale >= 1 else [1, 5]
    yield "attendees", full_path.by_attendees("revm", sizes)
    yield "height", full_path.by_height("revm", [0, 1_000, 10_000] if scale >= 1 else [0, 100])
    yield "length", full_path.by_length("revm", max(200, round(10_000 * scale)), max(100, round(1_000 * scale)))
    names, runs = ["calm", "flaky", "hostile", "volatile"], max(2, round(100 * scale))
    seconds = {jobs: [run(names, "revm", runs=runs, seed=0, jobs=jobs).seconds for _ in range(2)] for jobs in (1, 2)}
    yield "processes", [median(seconds[1]), median(seconds[2])]


# ----------------------------------------------------------------------------------------------------- the page


def _page(field: list[Contender], rounds: int, figures: dict[str, Any]) -> Iterator[str]:
    base = median(field[0].rates)
    fast = next((median(one.rates) for one in field[1:2] if one.rates), None)
    versions = {name: version for one in field for name, version in one.versions.items()}
    yield "# How fast it is"
    yield ""
    yield "Written by `stakesim bench --out benchmarks`: one machine, one run. The lifecycle is `lifecycle.yaml`: a run"
    yield "is opened, six attendees book, five come; all payouts are checked to the wei by each contender."
    yield ""
    yield f"Machine: {os.cpu_count()} cores, {_processor()}, {platform.system()}, Python {platform.python_version()}."
    yield f"Versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}."
    yield f"Medians of {rounds} rounds in turns, lowest and highest beside them."
    yield ""
    yield "| contender | what it does | transactions a second | to the bare loop | to it with fast keccak |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for one in field:
        if one.trouble:
            yield f"| {one.name} | {one.does} | {one.trouble} | | |"
            continue
        rate = median(one.rates)
        beside = f" ({_short(min(one.rates))} to {_short(max(one.rates))})" if rounds > 1 else ""
        faster = f"{rate / fast:.2f}" if fast else ""
        yield f"| {one.name} | {one.does} | {_short(rate)}{beside} | {rate / base:.2f} | {faster} |"
    if not figures:
        return
    one, two = figures["processes"]
    length = figures["length"]
    yield ""
    yield "| target | asked | measured |"
    yield "| --- | ---: | ---: |"
    for name, asked in (("stakesim on py-evm", 0.7), ("stakesim on revm", 5.0)):
        for ratio in (median(c.rates) / base for c in field if c.name == name and c.rates):
            yield f"| {name}, to the bare loop | {asked} | {ratio:.2f}{'' if ratio >= asked else ', missed'} |"
    missed = "" if one / two >= 1.7 else ", missed"
    yield f"| two processes to one, a campaign on revm | 1.7 | {one / two:.2f}{missed} |"
    (first, at_first), (last, at_last) = length[0], length[-1]
    missed = "" if at_last <= 1.2 * at_first else ", missed"
    what = f"time a transaction after {last} transactions, to the first {first}"
    yield f"| {what} | at most 1.2 | {at_last / at_first:.2f}{missed} |"
    yield ""
    yield "## Growth, on revm"
    yield ""
    yield "![growth](growth.svg)"
    yield ""
    yield "| | | milliseconds a transaction |"
    yield "| --- | ---: | ---: |"
    for what, unit in (("length", "transactions played"), ("attendees", "bookings of one run"), ("height", "blocks")):
        for size, milliseconds in figures[what]:
            yield f"| {unit} | {size} | {milliseconds:.2f} |"
    yield ""
    yield "## Where the time of one booking goes, on revm"
    yield ""
    yield "Each moment counted once; the clocks cost some microseconds a part themselves."
    yield ""
    yield "| part | times | microseconds | share |"
    yield "| --- | ---: | ---: | ---: |"
    whole = sum(us for _, us in figures["profile"].values())
    for what, (times, us) in figures["profile"].items():
        yield f"| {what} | {times:.1f} | {us:.0f} | {us / whole:.1%} |"
    yield f"| all of it | | {whole:.0f} | |"
    groups = {"database": 0.0, "harness": 0.0, "node": 0.0}
    for what, (_, us) in figures["profile"].items():
        for group in groups:
            groups[group] += us if what.startswith(group) else 0.0
    service = whole - sum(groups.values())
    told = ", ".join(f"{group} {us / whole:.0%}" for group, us in {**groups, "services and signing": service}.items())
    bare, without = 1e6 / base, whole - groups["database"]
    yield ""
    yield f"By layer: {told}."
    yield f"The floor: were database, node and harness free, services and signing alone would take {service:.0f}"
    yield f"microseconds a booking, {bare / service:.0f} times as fast as the bare loop's {bare:.0f}; with the node and"
    yield f"harness but without the database it would be {bare / without:.1f} times, as it is {bare / whole:.1f}."


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1_000 else f"{rate:.1f}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _plots(field: list[Contender], figures: dict[str, Any], out: Path) -> None:
    """contenders.svg and growth.svg. Raises `OSError` with a sentence where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotInstalled("The plots", "matplotlib", "economics") from None
    shown = [one for one in field if one.rates][::-1]
    figure = Figure(figsize=(9, 0.45 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    colours = ["#0072b2" if one.name.startswith(("stakesim", "the API")) else "#999999" for one in shown]
    bars = axes.barh([one.name for one in shown], [median(one.rates) for one in shown], color=colours)
    axes.bar_label(bars, [_short(median(one.rates)) for one in shown], padding=3)
    axes.set(xscale="log", xlabel="transactions a second (log scale); blue: with services, database and all checks")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "contenders.svg", metadata={"Date": None})
    if not figures:
        return
    figure = Figure(figsize=(10, 3), layout="constrained")
    titles = {"length": "transactions played", "attendees": "bookings of one run", "height": "blocks before"}
    for axes, (what, title) in zip(figure.subplots(1, 3, sharey=True), titles.items(), strict=True):
        axes.plot(*zip(*figures[what], strict=True), marker="o", color="#0072b2")
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("ms a transaction")
    figure.axes[0].set_ylim(bottom=0)  # when all is drawn: they share it
    figure.savefig(out / "growth.svg", metadata={"Date": None})
