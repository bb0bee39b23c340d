"""`stakesim gate`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim.commands.options import (
    JOBS,
    SEED,
    SEED_BITS,
    Contract,
    Engine,
    Jobs,
    Terms,
    contract_or_default,
    duration,
    option_text,
    parse_terms,
    reports,
)
from stakesim.commands.terminal import console, finish, print_finding, uninterrupted
from stakesim.gate.profiles import EFFORTS, ProfileName

if TYPE_CHECKING:
    from stakesim.gate.result import GatePart

_MINUTES = ", ".join(f"{name} {effort.minutes:g}m" for name, effort in EFFORTS.items())


@reports
def gate(
    contract: Contract = None,
    profile: Annotated[
        ProfileName,
        typer.Option(
            help="Effort: pr takes minutes; nightly takes hours, judges all mutants and adds proofs and faults; "
            "release, which `deploy` requires, takes the longest."
        ),
    ] = "pr",
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Time for all parts together, as 90s, 10m or 2h. What did not fit in is told, and of which part too "
            "little was tried is no pass.",
            show_default=_MINUTES,
        ),
    ] = None,
    engine: Engine = "revm",
    seed: Annotated[
        int | None, typer.Option(help=SEED, min=0, show_default="pr 0; nightly, release: a fresh one, which is told")
    ] = None,
    jobs: Jobs = JOBS,
    term: Terms = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/gate"),
) -> None:
    """Run all checks that a contract must pass before a deployment, and write the report that `deploy` requires."""
    from stakesim.errors import require
    from stakesim.gate import report
    from stakesim.gate.pipeline import run_gate
    from stakesim.gate.result import PartVerdict

    report.prepare(out)
    packages = ("jinja2", "matplotlib", "pyarrow", "pytest")  # the report needs the first three
    require("The gate", "gate", *packages, *(["pyrevm"] if engine == "revm" else []))
    contract = contract_or_default(contract)
    output = console()
    wrong = console(findings=True) if output.quiet else output  # or the status would be drawn over it

    def print_part(part: GatePart) -> None:
        output.print(f"{part.verdict:10} {part.name:12} {part.seconds:6.1f} s  {part.figure_text}", markup=False)
        for text in [*part.problems, *part.narratives]:
            (wrong if part.is_troubled else output).print(text, markup=False)
            if part.is_troubled:
                print_finding(part.name, text, verdict=part.verdict.value)

    if seed is None:
        seed = 0 if profile == "pr" else secrets.randbits(SEED_BITS)
    output.print(f"seed {seed}")
    with output.status("compiling") as status:
        result = run_gate(
            contract,
            profile,
            engine,
            seed=seed,
            jobs=jobs,
            terms=parse_terms(term) if term else None,
            seconds=duration(for_),
            progress=status.update,
            ended=print_part,
        )
    options = option_text(**{"contract": contract, "for": for_}, profile=profile, engine=engine)
    options += "".join(option_text(term=each) for each in term or ())
    with uninterrupted():
        console(findings=not result.ok).print(f"\n{report.verdict_line(result)}", markup=False)
        output.print(f"{report.summary_sentence(result)} {result.seconds:.0f} s", markup=False)
        report.write(result, out, f"stakesim gate{options} --seed {seed}")
    output.print(f"report: {out / 'report.html'}, for a deployment: {out / 'gate.json'}", markup=False)
    finish(
        ok=result.ok,
        vacuous=result.verdict is PartVerdict.VACUOUS,
        interrupted=result.interrupted,
        seed=seed,
        seconds=round(result.seconds, 1),
        parts={part.name: part.verdict.value for part in result.parts},
        not_tried=result.not_tried,
        report=str(out / "gate.json"),
    )
