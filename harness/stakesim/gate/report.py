"""What came of a gate, as files: for people, for a pull request, for CI, for notebooks, and for a deploy."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from stakesim import plots
from stakesim.campaign.report import SUMMARY_KEYS
from stakesim.errors import NotInstalled
from stakesim.evm.compiler import compiler_version
from stakesim.evm.coverage import Coverage
from stakesim.gate.pipeline import Gate, failures
from stakesim.gate.release import code_hash
from stakesim.paths import checkout, package_data
from stakesim.runner import ledger
from stakesim.runner.ledger import LedgerRow, by_party
from stakesim.runner.narrative import WEI_PER_ETH

RESULTS = {True: "pass", False: "fail", None: "not tried"}
_PACKAGES = ("web3", "eth-tester", "py-evm", "pyrevm", "hypothesis")


def write(gate: Gate, folder: Path, command: str) -> None:
    """Writes report.html, summary.md, junit.xml, ledger.parquet, gate.json, and lcov.info where there is coverage.

    command: that made it. Raises `ValueError` where a package for it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = datetime.now(UTC).replace(microsecond=0)
    ledger.write(gate.rows, folder / "ledger.parquet")
    (folder / "gate.json").write_text(json.dumps(as_json(gate, made, command), indent=2) + "\n", encoding="utf-8")
    (folder / "summary.md").write_text("\n".join(_markdown(gate, command)) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_html(gate, made, command), encoding="utf-8")
    ET.ElementTree(_junit(gate)).write(folder / "junit.xml", encoding="utf-8", xml_declaration=True)
    if gate.coverage:
        (folder / "lcov.info").write_text(gate.coverage.lcov(), encoding="utf-8")


def as_json(gate: Gate, made: datetime, command: str) -> dict[str, Any]:
    """What a deploy needs to know, and the figures."""
    return {
        "verdict": "pass" if gate.ok else "fail",
        "made": made.isoformat(),
        "command": command,
        "profile": gate.profile,
        "contract": {
            "name": gate.artifact.name,
            "given": gate.given,
            "bytecode_keccak256": code_hash(gate.artifact.bytecode),
            "bytes": len(gate.artifact.deployed_bytecode) // 2 - 1,
        },
        "constructor": {"terms": dict(gate.terms)},
        "engine": gate.engine,
        "seed": gate.seed,
        "versions": versions(),
        "seconds": round(gate.seconds, 1),
        "parts": {
            part.name: {
                "result": RESULTS[part.ok],
                "seconds": round(part.seconds, 1),
                "figures": part.figures,
                "problems": part.problems,
                "findings": sorted({finding.weakness or finding.id for finding in part.findings}),
            }
            for part in gate.parts
        },
        "reached": dict(sorted(gate.reached.items())),
        "gas": {change.sentence: change.now for change in gate.gas},
    }


def versions() -> dict[str, str]:
    """Of what plays and compiles."""
    found = {"stakesim": version("stakesim"), "Python": platform.python_version(), "solc": compiler_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def sentence(gate: Gate) -> str:
    """The verdict for somebody who does not program."""
    failed = [part.name for part in gate.parts if part.ok is False]
    missing = [part.name for part in gate.parts if part.ok is None]
    left = f" Not tried: {', '.join(missing)}." if missing else ""
    steps = sum(part.figures.get("steps", 0) for part in gate.parts)
    transactions = sum(part.figures.get("transactions", 0) for part in gate.parts)
    if failed:
        return f"Do not deploy it: {', '.join(failed)} failed. What went wrong is told below, step by step.{left}"
    return (
        f"In {steps:,} steps and {transactions:,} transactions nobody got a wei too much or too little, and nothing "
        f"was possible that must not be.{left}"
    )


def _markdown(gate: Gate, command: str) -> Iterator[str]:
    yield f"## {gate.artifact.name}: {'pass' if gate.ok else 'fail'}\n\n{sentence(gate)}\n"
    yield "| part | result | figures | seconds |\n| --- | --- | --- | ---: |"
    for part in gate.parts:
        figures = ", ".join(f"{value} {name}" for name, value in part.figures.items())
        yield f"| {part.name} | {RESULTS[part.ok]} | {figures} | {part.seconds:.1f} |"
    for part, told in failures(gate):
        yield f"\n### {part.name}\n"
        for story in told:
            yield f"```\n{story}\n```"
    changed = [change for change in gate.gas if change.was != change.now and change.was is not None]
    if changed:
        yield "\n### Gas\n\n| transaction | reviewed | now |\n| --- | ---: | ---: |"
        for change in changed:
            yield f"| {change.sentence} | {change.was:,} | {'' if change.now is None else f'{change.now:,}'} |"
    yield f"\nMade by `{command}`."


def _junit(gate: Gate) -> ET.Element:
    failed = sum(part.ok is False for part in gate.parts)
    skipped = sum(part.ok is None for part in gate.parts)
    suite = ET.Element(
        "testsuite",
        name=f"stakesim gate: {gate.artifact.name}",
        tests=str(len(gate.parts)),
        failures=str(failed),
        skipped=str(skipped),
        time=f"{gate.seconds:.1f}",
    )
    for part in gate.parts:
        case = ET.SubElement(
            suite, "testcase", classname=f"gate.{gate.artifact.name}", name=part.name, time=f"{part.seconds:.1f}"
        )
        told = "\n\n".join([*part.problems, *part.stories])
        if part.ok is False:
            ET.SubElement(case, "failure", message=f"{part.name} failed").text = told
        elif part.ok is None:
            ET.SubElement(case, "skipped", message=told)
    return suite


def _html(gate: Gate, made: datetime, command: str) -> str:
    try:
        from jinja2 import Environment
    except ImportError:
        raise NotInstalled("The report", "jinja2", "gate", "`make gate`" if checkout() else "") from None
    template = Environment(autoescape=True).from_string(package_data("gate_report.html").read_text())
    left_out = sorted(key.removeprefix("not supported: ") for key in gate.reached if key.startswith("not supported"))
    return template.render(
        gate=gate,
        made=f"{made:%Y-%m-%d %H:%M} UTC",
        verdict="Passed" if gate.ok else "Failed",
        sentence=sentence(gate),
        results=RESULTS,
        classes={True: "ok", False: "bad", None: "open"},
        left_out=", ".join(left_out),
        reached=", ".join(f"{gate.reached[key]:,} {key}" for key in SUMMARY_KEYS),
        payouts=_payouts(gate.rows),
        payouts_plot=plots.svg(plots.payouts(by_party(gate.rows))),
        gas_plot=_gas_plot(gate),
        coverage=_covered(gate.coverage),
        lines=_annotated(gate.coverage, gate.source),
        versions=versions(),
        code_hash=code_hash(gate.artifact.bytecode),
        command=command,
    )


# Who got what


def _payouts(rows: Sequence[LedgerRow]) -> list[dict[str, str]]:
    """What was deferred counts when it is credited, not again when it is withdrawn."""
    told = []
    for party, sums in sorted(by_party(rows).items()):
        got = sums["pushed"] + sums["deferred"]
        if party == "platform":
            got += sums["withdrawn"]
        told.append(
            {
                "party": party,
                "paid": f"{Decimal(sums['paid']) / WEI_PER_ETH:,.3f}",
                "eth": f"{Decimal(got) / WEI_PER_ETH:,.3f}",
                "wei": f"{got:,}",
                "inr": f"{Decimal(sums['paise']) / 100:,.2f}",
            }
        )
    return told


def _gas_plot(gate: Gate) -> Any:
    measured = {change.sentence: float(change.now) for change in gate.gas if change.now}
    return plots.svg(plots.bar_chart(measured, "gas")) if measured else ""


# Coverage


def _covered(coverage: Coverage | None) -> str:
    if coverage is None:
        return ""
    taken = sum(len(branch.taken) for branch in coverage.branches)
    return (
        f"{sum(coverage.lines.values())} of {len(coverage.lines)} lines with statements ran, and "
        f"{taken} of {2 * len(coverage.branches)} ways of its decisions were taken."
    )


def _annotated(coverage: Coverage | None, source: str) -> list[dict[str, str]]:
    if coverage is None:
        return []
    half = {branch.line for branch in coverage.missed_branches}
    styles = {line: "half" if line in half else "ran" if ran else "missed" for line, ran in coverage.lines.items()}
    styles |= dict.fromkeys(half - styles.keys(), "half")
    return [{"text": text, "style": styles.get(number, "")} for number, text in enumerate(source.splitlines(), start=1)]
