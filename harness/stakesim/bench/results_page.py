"""Writes what `stakesim bench` measured: RESULTS.md and its plots."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stakesim.bench.contenders import FAST_BASE, Contender
from stakesim.bench.growth import Growth
from stakesim.errors import NotInstalled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY = "#0072b2", "#999999"
_RATIO_TARGETS = {"stakesim on py-evm": 0.7, "stakesim on revm": 5.0}
"""Least ratio to the base, by name of the contender."""
_SPEEDUP_TARGET = 1.7
"""Least ratio of the time of one process to that of two."""
_SLOWDOWN_TARGET = 1.2
"""Highest ratio of the time of the last transactions to that of the first."""


def write(contenders: Sequence[Contender], rounds: int, growth: Growth | None, folder: Path) -> Path:
    """Writes RESULTS.md, contenders.svg and, if growth was measured, growth.svg. Returns the path of the page.

    Raises:
        NotInstalled: matplotlib is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _plot_contenders(contenders, folder / "contenders.svg")
    if growth:
        _plot_growth(growth, folder / "growth.svg")
    file = folder / "RESULTS.md"
    file.write_text(page(contenders, rounds, growth) + "\n")
    return file


def page(contenders: Sequence[Contender], rounds: int, growth: Growth | None) -> str:
    """The page as Markdown.

    Args:
        contenders: The base first.
        rounds: Rounds that were run.
        growth: None if it was not measured.
    """
    lines = [*_heading(contenders, rounds), *_contender_table(contenders, rounds)]
    if growth:
        lines += [*_targets(contenders, growth), *_growth_table(growth), *_profile_table(growth, contenders[0].rate)]
    return "\n".join(lines)


def _heading(contenders: Sequence[Contender], rounds: int) -> Iterator[str]:
    versions = {name: version for contender in contenders for name, version in contender.versions.items()}
    yield "# How fast it is\n"
    yield "Written by `stakesim bench --out benchmarks`: one machine, one run. The lifecycle is `lifecycle.yaml`: a run"
    yield "is created, six attendees book, five attend. Each contender checks all payouts to the wei. Instead of"
    yield "transactions, the search counts calls, and sweeps and settlements bookings per second of processor time.\n"
    yield f"Machine: {os.cpu_count()} cores, {_processor()}, {platform.system()}, Python {platform.python_version()}."
    yield f"Versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}."
    yield f"Medians of {rounds} rounds in turns; lowest and highest in brackets.\n"


def _contender_table(contenders: Sequence[Contender], rounds: int) -> Iterator[str]:
    base = contenders[0].rate
    fast_base = next((each.rate for each in contenders if each.name == FAST_BASE and each.rates), None)
    yield "| contender | what it does | transactions per second | to the bare loop | to the loop with fast keccak |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for contender in contenders:
        if contender.trouble:
            yield f"| {contender.name} | {contender.description} | {contender.trouble} | | |"
            continue
        rate = _short(contender.rate)
        if rounds > 1:
            rate += f" ({_short(min(contender.rates))} to {_short(max(contender.rates))})"
        to_base, to_fast_base = (f"{contender.rate / other:.2f}" if other else "" for other in (base, fast_base))
        yield f"| {contender.name} | {contender.description} | {rate} | {to_base} | {to_fast_base} |"


def _targets(contenders: Sequence[Contender], growth: Growth) -> Iterator[str]:
    yield "\n| ratio | target | measured |\n| --- | ---: | ---: |"
    rates = {contender.name: contender.rate for contender in contenders if contender.rates}
    for name, target in _RATIO_TARGETS.items():
        if name in rates:
            ratio = rates[name] / contenders[0].rate
            yield f"| {name}, to the bare loop | {target} | {_measured(ratio, ok=ratio >= target)} |"
    speedup = growth.seconds[1] / growth.seconds[2]
    measured = _measured(speedup, ok=speedup >= _SPEEDUP_TARGET)
    yield f"| two processes to one, a campaign on revm | {_SPEEDUP_TARGET} | {measured} |"
    first, last = growth.length[0], growth.length[-1]
    slowdown = last.milliseconds / first.milliseconds
    measured = _measured(slowdown, ok=slowdown <= _SLOWDOWN_TARGET)
    name = f"time per transaction after {last.size} transactions, to the first {first.size}"
    yield f"| {name} | at most {_SLOWDOWN_TARGET} | {measured} |"


def _measured(ratio: float, *, ok: bool) -> str:
    return f"{ratio:.2f}{'' if ok else ', missed'}"


def _growth_table(growth: Growth) -> Iterator[str]:
    yield "\n## Growth, on revm\n\n![growth](growth.svg)\n"
    yield "| | | milliseconds per transaction |\n| --- | ---: | ---: |"
    figures = {"transactions before": growth.length, "bookings of one run": growth.attendees, "blocks": growth.height}
    for unit, points in figures.items():
        for size, milliseconds in points:
            yield f"| {unit} | {size} | {milliseconds:.2f} |"


def _profile_table(growth: Growth, base_rate: float) -> Iterator[str]:
    yield "\n## Where the time of one booking goes, on revm\n"
    yield "Time inside an inner part does not count for the outer one. Measuring costs some microseconds per part.\n"
    yield "| part | times | microseconds | share |\n| --- | ---: | ---: | ---: |"
    whole = sum(time.microseconds for time in growth.profile.values())
    for part, time in growth.profile.items():
        yield f"| {part} | {time.calls:.1f} | {time.microseconds:.0f} | {time.microseconds / whole:.1%} |"
    yield f"| total | | {whole:.0f} | |"
    layers = {
        layer: sum(time.microseconds for part, time in growth.profile.items() if part.startswith(layer))
        for layer in ("database", "harness", "node")
    }
    services = whole - sum(layers.values())
    shares = {**layers, "services and signing": services}
    base = 1e6 / base_rate
    fastest, without_database, measured = (base / time for time in (services, whole - layers["database"], whole))
    yield f"\nBy layer: {', '.join(f'{layer} {time / whole:.0%}' for layer, time in shares.items())}."
    yield f"The floor: were database, node and harness free, services and signing alone would take {services:.0f}"
    yield f"microseconds per booking, {fastest:.0f} times as fast as the bare loop's {base:.0f}; with the node and"
    yield f"harness but without the database it would be {without_database:.1f} times, as it is {measured:.1f}."


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1_000 else f"{rate:.1f}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


# -------------------------------------------------------------------------------------------------------------- plots


def _plot_contenders(contenders: Sequence[Contender], file: Path) -> None:
    measured = [contender for contender in contenders if contender.rates][::-1]
    figure = _figure(9, 0.45 * len(measured) + 1)
    axes = figure.subplots()
    colours = [BLUE if contender.is_ours else GREY for contender in measured]
    bars = axes.barh([c.name for c in measured], [c.rate for c in measured], color=colours)
    axes.bar_label(bars, [_short(contender.rate) for contender in measured], padding=3)
    axes.set(xscale="log", xlabel="transactions per second (log scale); blue: with services, database and all checks")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})


def _plot_growth(growth: Growth, file: Path) -> None:
    figure = _figure(10, 3)
    points = {
        "transactions before": growth.length,
        "bookings of one run": growth.attendees,
        "blocks before": growth.height,
    }
    for axes, (label, line) in zip(figure.subplots(1, 3, sharey=True), points.items(), strict=True):
        axes.plot(*zip(*line, strict=True), marker="o", color=BLUE)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("ms per transaction")
    figure.axes[0].set_ylim(bottom=0)  # after all lines, as the axes share it
    figure.savefig(file, metadata={"Date": None})


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotInstalled("The plots", "matplotlib", "economics") from None
    return Figure(figsize=(width, height), layout="constrained")
