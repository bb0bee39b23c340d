"""Writes the result of a gate as files: for people, for a pull request, for CI, for notebooks, and for a deployment."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from xml.etree import ElementTree as ET

from stakesim import gas_table, plots
from stakesim.campaign.html_report import headline, payouts, render
from stakesim.campaign.report import SUMMARY_KEYS
from stakesim.campaign.stories import stories
from stakesim.evm.compiler import compiler_version
from stakesim.evm.coverage import Coverage
from stakesim.gate.equivalent_mutants import EQUIVALENT
from stakesim.gate.errors import ReportError
from stakesim.gate.hashes import code_hash
from stakesim.gate.proofs import FAULTS
from stakesim.gate.result import GateResult, PartVerdict
from stakesim.gate.reviewed import reviewed_folder
from stakesim.gate.sarif import sarif
from stakesim.gate.static_analysis import TRIAGE
from stakesim.gate.unreached import UNREACHED
from stakesim.runner import ledger
from stakesim.runner.ledger import by_party

_PACKAGES = ("web3", "eth-tester", "py-evm", "pyrevm")
_VERDICT_CLASSES = {
    PartVerdict.PASS: "ok",
    PartVerdict.FAIL: "bad",
    PartVerdict.VACUOUS: "bad",
    PartVerdict.NOT_TRIED: "open",
}
"""CSS classes."""


FILES = ("report.html", "summary.md", "junit.xml", "gate.sarif", "ledger.parquet", "lcov.info")
"""What `write` writes before gate.json; lcov.info only if there is coverage."""
VERDICT = "gate.json"
"""What `stakesim deploy` and CI read."""
_UNFINISHED = f"{VERDICT}.unfinished"


def prepare(folder: Path) -> None:
    """Makes the folder, and removes the report of an earlier gate, which nobody may take for that of this one.

    Call it before anything runs: a folder that can't be written must not be found out hours later.

    Args:
        folder: Where `write` is going to write.

    Raises:
        ReportError: The folder can't be made or written, or a file in it can't be removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (VERDICT, _UNFINISHED, *FILES):  # the verdict first, in case another one can't be removed
            (folder / name).unlink(missing_ok=True)
        with NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ReportError(
            f"The report can't be written into {folder}: {error.strerror or error} ({error.filename or folder}). Name "
            "another folder with --out."
        ) from None


def write(gate: GateResult, folder: Path, command: str) -> None:
    """Writes `FILES`, and when all of them are there `VERDICT`, by a rename: it is there as a whole or not at all.

    Args:
        gate: Result of the gate.
        folder: Where the files go; created if needed.
        command: Command that gives the same result again.

    Raises:
        NotInstalled: A package for one of the files is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written_at = datetime.now(UTC).replace(microsecond=0)
    ledger.write(gate.rows, folder / "ledger.parquet")
    _write_text(folder / "summary.md", "\n".join(_markdown(gate, command)) + "\n")
    _write_text(folder / "report.html", _html(gate, written_at, command))
    ET.ElementTree(_junit(gate)).write(folder / "junit.xml", encoding="utf-8", xml_declaration=True)
    _write_text(folder / "gate.sarif", json.dumps(sarif(gate), indent=2) + "\n")
    if gate.coverage:
        _write_text(folder / "lcov.info", gate.coverage.lcov())
    _write_text(folder / _UNFINISHED, json.dumps(as_json(gate, written_at, command), indent=2) + "\n")
    (folder / _UNFINISHED).replace(folder / VERDICT)


def _write_text(file: Path, text: str) -> None:
    """Writes text in UTF-8. What UTF-8 has no way to write, as half a surrogate pair, is escaped."""
    file.write_text(text, encoding="utf-8", errors="backslashreplace")


def as_json(gate: GateResult, written_at: datetime, command: str) -> dict[str, Any]:
    """Content of gate.json: what a deployment requires, and all figures."""
    return {
        "verdict": gate.verdict,
        "not_tried": gate.not_tried,
        "made": written_at.isoformat(),
        "command": command,
        "profile": gate.profile,
        "minutes": round(gate.minutes, 1),
        "contract": {
            "name": gate.artifact.name,
            "given": gate.contract,
            "bytes": len(gate.artifact.deployed_bytecode) // 2 - 1,
        },
        "hashes": gate.hashes,
        "git": gate.revision,
        "constructor": {"terms": dict(gate.terms)},
        "engine": gate.engine,
        "seed": gate.seed,
        "versions": versions(),
        "seconds": round(gate.seconds, 1),
        "parts": {
            part.name: {
                "result": part.verdict,
                "seconds": round(part.seconds, 1),
                "seeds": part.seeds,
                "cut_short": part.cut or None,
                "left_out": part.left_out,
                "figures": part.figures,
                "problems": part.problems,
                "findings": sorted({finding.weakness or finding.id for finding in part.findings}),
            }
            for part in gate.parts
        },
        "coverage": gate.coverage
        and {
            "lines": gate.coverage.line_count,
            "branches": gate.coverage.branch_count,
            "reviewed": [{"unreached": gap, "reason": reason} for gap, reason in gate.reviewed.items()],
        },
        "mutation": gate.mutation and gate.mutation.as_json(),
        "reviewed": reviewed_lists(gate),
        "proofs": [
            {"name": proof.name, "verdict": proof.verdict, "seconds": round(proof.seconds, 1)}
            for report in gate.analyses
            for proof in report.proofs
        ],
        "analyses": [
            {
                "tool": report.tool,
                "result": PartVerdict.FAIL if report.problems else PartVerdict.PASS,
                "seconds": round(report.seconds, 1),
                "figures": dict(report.figures),
                "problems": list(report.problems),
            }
            for report in gate.analyses
        ],
        "reached": dict(sorted(gate.reached.items())),
        "gas": {change.transaction: change.measured for change in gate.gas},
    }


def reviewed_lists(gate: GateResult) -> dict[str, str]:
    """SHA-256 of each list of what people have reviewed and the gate therefore allows, by its file's name."""
    folder = reviewed_folder(gate.file)
    files = [] if folder is None else [folder / EQUIVALENT, folder / UNREACHED]
    if gate.is_own:
        files += [TRIAGE, FAULTS, gas_table.table_file()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


def versions() -> dict[str, str]:
    """Versions of the library, of Python, of the compiler, and of packages that the result may depend on."""
    versions = {"stakesim": version("stakesim"), "Python": platform.python_version(), "solc": compiler_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def verdict_line(gate: GateResult) -> str:
    """The verdict, and what it is not about."""
    not_tried = ", ".join(gate.not_tried)
    return f"{gate.verdict.upper()}{f'; not tried: {not_tried}' if not_tried else ''}"


def summary_sentence(gate: GateResult) -> str:
    """What the verdict means, for somebody who does not program."""
    parts = ", ".join(part.name for part in gate.troubled_parts if part.verdict is gate.verdict)
    if gate.verdict is PartVerdict.FAIL:
        told = stories([finding for part in gate.parts for finding in part.findings], ())
        what = f" {headline(told)}" if told else ""
        return f"Do not deploy it: {parts} failed.{what} The report shows each failure step by step."
    if gate.verdict is PartVerdict.VACUOUS:
        return f"Too little was reached to judge it, although nothing wrong was found: {parts}. The report says what."
    steps = sum(part.figures.get("steps", 0) for part in gate.parts)
    transactions = sum(part.figures.get("transactions", 0) for part in gate.parts)
    return (
        f"In {steps:,} steps and {transactions:,} transactions nobody received a wei too much or too little, and "
        "nothing was possible that must not be."
    )


def _markdown(gate: GateResult, command: str) -> Iterator[str]:
    yield f"## {gate.artifact.name}: {verdict_line(gate)}\n\n{summary_sentence(gate)}\n"
    yield "| part | result | figures | seconds |\n| --- | --- | --- | ---: |"
    for part in gate.parts:
        yield f"| {part.name} | {part.verdict} | {part.figure_text} | {part.seconds:.1f} |"
    for part in gate.troubled_parts:
        yield f"\n### {part.name}\n"
        for text in [*part.problems, *part.narratives]:
            yield f"```\n{text}\n```"
    changed = [change for change in gate.gas if change.reviewed not in (change.measured, None)]
    if changed:
        yield "\n### Gas\n\n| transaction | reviewed | now |\n| --- | ---: | ---: |"
        for change in changed:
            measured = "" if change.measured is None else f"{change.measured:,}"
            yield f"| {change.transaction} | {change.reviewed:,} | {measured} |"
    yield f"\nMade by `{command}`."


_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets)."""


def _junit(gate: GateResult) -> ET.Element:
    verdicts = [part.verdict for part in gate.parts]
    suite = ET.Element(
        "testsuite",
        name=f"stakesim gate: {gate.artifact.name}",
        tests=str(len(gate.parts)),
        failures=str(len(gate.troubled_parts)),
        skipped=str(verdicts.count(PartVerdict.NOT_TRIED)),
        time=f"{gate.seconds:.1f}",
    )
    for part in gate.parts:
        case = ET.SubElement(
            suite, "testcase", classname=f"gate.{gate.artifact.name}", name=part.name, time=f"{part.seconds:.1f}"
        )
        text = _NO_XML.sub(lambda found: ascii(found[0])[1:-1], "\n\n".join([*part.problems, *part.narratives]))
        if part in gate.troubled_parts:
            ET.SubElement(case, "failure", message=f"{part.name}: {part.verdict}").text = text
        elif part.verdict is PartVerdict.NOT_TRIED:
            ET.SubElement(case, "skipped", message=text)
    return suite


def _html(gate: GateResult, written_at: datetime, command: str) -> str:
    prefix = "not supported: "
    not_supported = sorted(key.removeprefix(prefix) for key in gate.reached if key.startswith(prefix))
    told = {part.name: stories(part.findings, gate.rows) for part in gate.parts}
    return render(
        "gate_report.html",
        gate=gate,
        stories=told,
        written_at=f"{written_at:%Y-%m-%d %H:%M} UTC",
        sentence=summary_sentence(gate),
        verdict_classes=_VERDICT_CLASSES,
        not_supported=", ".join(not_supported),
        reached=", ".join(f"{gate.reached[key]:,} {key}" for key in SUMMARY_KEYS),
        payouts=payouts(gate.rows),
        payouts_plot=plots.svg(plots.payouts(by_party(gate.rows))),
        gas_plot=_gas_plot(gate),
        sources={each.file: _source_lines(each) for each in (gate.coverage.files if gate.coverage else ())},
        versions=versions(),
        code_hash=code_hash(gate.artifact.bytecode),
        command=command,
    )


def _gas_plot(gate: GateResult) -> Any:
    measured = {change.transaction: float(change.measured) for change in gate.gas if change.measured}
    return plots.svg(plots.bar_chart(measured, "gas")) if measured else ""


def _source_lines(coverage: Coverage) -> list[dict[str, str]]:
    """Text and CSS class of each line of a source file."""
    half = {branch.line for branch in coverage.missed_branches}
    styles = {line: "half" if line in half else "ran" if ran else "missed" for line, ran in coverage.lines.items()}
    styles |= dict.fromkeys(half - styles.keys(), "half")
    lines = coverage.source.splitlines()
    return [{"text": text, "style": styles.get(number, "")} for number, text in enumerate(lines, start=1)]
