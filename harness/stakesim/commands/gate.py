"""`stakesim gate`, and its parts on their own: `mutate`, `coverage`, `gas`, on the command line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from stakesim.gate.mutation_run import Mutation, Verdict
    from stakesim.scenario.actions import Terms as ContractTerms

PASS, FINDINGS = 0, 1
Terms = Annotated[
    list[str] | None, typer.Option("--term", help="Of the contract, where not the usual: stake_bps=1000. Repeatable.")
]
Contract = Annotated[
    str | None, typer.Option(help="A Solidity file (FILE.sol:Name) or an artifact (.json) instead of EventStake.")
]
STATUSES = ("killed", "survived", "equivalent", "duplicate", "invalid")


def mutate(
    source: Annotated[Path | None, typer.Option(help="A Solidity file; contracts/EventStake.sol if left out.")] = None,
    contract: Annotated[str, typer.Option(help="The contract in it.")] = "EventStake",
    engine: Annotated[str, typer.Option(help="As for run; the fastest is best here.")] = "revm",
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Processes to play in.", min=1)] = 2,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, whose workers play instead (docs/CLUSTER.md).")
    ] = None,
    only: Annotated[str, typer.Option(help="Only mutants of lines, or functions, with this in them.")] = "",
    tests: Annotated[
        Path | None, typer.Option(help="Tests that take --contract, for mutants that all scenarios pass.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write all verdicts into this JSON file.")] = None,
) -> None:
    """Put small faults into the contract, one at a time, and count how many are found."""
    from rich.console import Console

    from stakesim.evm.compiler import CONTRACTS
    from stakesim.gate import mutation_run

    console = Console(soft_wrap=True, highlight=False)
    file = source or CONTRACTS / "EventStake.sol"
    result = _with_progress(file, contract, engine, jobs, dask, only, tests)
    _show(console, result, file.read_text())
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps([_row(verdict) for verdict in result.verdicts], indent=1) + "\n")
    killed, survived = len(result.of("killed")), len(result.of("survived"))
    console.print(
        f"{killed} of {killed + survived} mutants killed, {result.score:.1%}, in {result.seconds:.0f} s; "
        f"asked are {mutation_run.LEAST:.0%}, and all on lines that compute or move money: {'pass' if result.passed else 'missed'}"
    )
    raise typer.Exit(PASS if result.passed else FINDINGS)


def coverage(
    source: Annotated[Path | None, typer.Option(help="A Solidity file; contracts/EventStake.sol if left out.")] = None,
    contract: Annotated[str, typer.Option(help="The contract in it.")] = "EventStake",
    tests: Annotated[Path | None, typer.Option(help="Tests that take --stakesim-contract, as well.")] = None,
    lcov: Annotated[Path | None, typer.Option(help="Write a tracefile, for genhtml or an editor.")] = None,
) -> None:
    """Play all scenarios and say which lines and branches of the contract none of them reaches."""
    from rich.console import Console
    from rich.progress import Progress

    from stakesim.evm.compiler import CONTRACTS
    from stakesim.gate.coverage import cover

    console = Console(soft_wrap=True, highlight=False)
    file = source or CONTRACTS / "EventStake.sol"
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("playing", total=None)
        reached = cover(file, contract, tests, lambda played: bar.update(task, description=played.scenario.name[:28]))
    lines = file.read_text().splitlines()
    for line in reached.missed_lines:
        console.print(f"{file.name}:{line}: did not run: {lines[line - 1].strip()}", markup=False)
    for branch in reached.missed_branches:
        way = {frozenset({True}): "one way only", frozenset({False}): "one way only"}.get(branch.taken, "never asked")
        console.print(f"{file.name}:{branch.line}: {way}: {' '.join(branch.condition.split())}", markup=False)
    if lcov:
        lcov.parent.mkdir(parents=True, exist_ok=True)
        lcov.write_text(reached.lcov())
    ran, taken = sum(reached.lines.values()), sum(len(branch.taken) for branch in reached.branches)
    console.print(f"{ran} of {len(reached.lines)} lines, {taken} of {2 * len(reached.branches)} branches")
    raise typer.Exit(PASS if not reached.missed_lines and not reached.missed_branches else FINDINGS)


def gate(
    contract: Contract = None,
    profile: Annotated[Literal["pr", "nightly"], typer.Option(help="How hard to try.")] = "pr",
    engine: Annotated[str, typer.Option(help="As for run; the fastest is best here.")] = "revm",
    seed: Annotated[int, typer.Option(help="The same seed tries the same.", min=0)] = 0,
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Processes to play in.", min=1)] = 2,
    term: Terms = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/gate"),
) -> None:
    """Try everything that a contract has to pass before it is deployed, and write the report that `deploy` asks for."""
    from rich.console import Console

    from stakesim.errors import require
    from stakesim.gate import report
    from stakesim.gate.pipeline import gate as try_everything
    from stakesim.project import current_project

    require("The gate", "gate", "jinja2", "pyarrow", "pytest", *(["pyrevm"] if engine == "revm" else []))
    contract = contract or current_project().contract
    console = Console(soft_wrap=True, highlight=False)
    with console.status("compiling") as status:
        made = try_everything(contract, profile, engine, seed, jobs, terms(term), lambda name: status.update(name))
    given = f" --contract {contract}" if contract else ""
    given += "".join(f" --term {one}" for one in term or ())
    report.write(made, out, f"stakesim gate{given} --profile {profile} --engine {engine} --seed {seed}")
    for part in made.parts:
        figures = ", ".join(f"{value} {name}" for name, value in part.figures.items())
        console.print(f"{report.RESULTS[part.ok]:10} {part.name:12} {part.seconds:6.1f} s  {figures}", markup=False)
        for told in [*part.problems, *part.stories]:
            console.print(told, markup=False)
    console.print(f"\n{'PASS' if made.ok else 'FAIL'}  {report.sentence(made)} {made.seconds:.0f} s", markup=False)
    console.print(f"report: {out / 'report.html'}, for a deploy: {out / 'gate.json'}", markup=False)
    raise typer.Exit(PASS if made.ok else FINDINGS)


def gas(
    write: Annotated[
        bool, typer.Option("--write", help="Write the project's table: what it costs now is reviewed.")
    ] = False,
    engine: Annotated[str, typer.Option(help="As for run; all charge the same.")] = "py-evm",
) -> None:
    """Measure what each transaction costs, and compare it with the table that was reviewed (tests/gas.json here)."""
    from contextlib import closing

    from rich.console import Console
    from rich.table import Table

    from stakesim.gate import gas
    from stakesim.runner.environment import open_environment

    with closing(open_environment(engine)) as environment:
        now = gas.measure(environment)
    changes = gas.changes(gas.committed(), now)
    table = Table("transaction", "reviewed", "now", "change")
    for change in changes:
        moved = f"{(change.now - change.was) / change.was:+.2%}" if change.was and change.now else "new"
        style = None if change.accepted else "red"
        table.add_row(change.sentence, f"{change.was or ''}", f"{change.now or ''}", moved, style=style)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    if write:
        gas.write(now)
    elif not gas.table().exists():
        raise gas.GasError(
            f"There is no reviewed table {gas.table()} to compare with: write one with `stakesim gas --write`."
        )
    failed = sum(not change.accepted for change in changes)
    console.print(
        f"{failed} of {len(changes)} changed by more than {gas.TOLERANCE_BPS / 100}%"
        + (": look at them, then `stakesim gas --write`" if failed and not write else "")
    )
    raise typer.Exit(FINDINGS if failed and not write else PASS)


def opinions(
    only: Annotated[Literal["slither", "halmos"] | None, typer.Option(help="One of them.")] = None,
) -> None:
    """Ask slither and halmos about EventStake: known mistakes, and proofs for any price and any attendance."""
    from stakesim.gate import static_analysis

    asked = [static_analysis.slither, static_analysis.halmos]
    heard = [ask() for ask in asked if only in (None, ask.__name__)]
    for opinion in heard:
        for problem in opinion.problems:
            typer.echo(problem)
        figures = ", ".join(f"{value} {name}" for name, value in opinion.figures.items())
        typer.echo(f"{opinion.name}: {'fail' if opinion.problems else 'pass'}, {figures}, {opinion.seconds:.0f} s")
    raise typer.Exit(FINDINGS if any(opinion.problems for opinion in heard) else PASS)


def terms(given: list[str] | None) -> ContractTerms:
    """Of `--term NAME=VALUE`, the usual ones where they are not given. Raises `typer.BadParameter`."""
    from pydantic import ValidationError

    from stakesim.scenario.actions import Terms

    pairs = dict(one.partition("=")[::2] for one in given or ())
    try:
        return Terms.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"{name}: {first['msg']}; terms are {', '.join(Terms.model_fields)}.") from None


def _show(console: Console, result: Mutation, source: str) -> None:
    from rich.table import Table

    from stakesim.gate.mutation_run import diff

    table = Table("operator", "made", *STATUSES)
    counts: dict[str, Counter[str]] = {}
    for verdict in result.verdicts:
        counts.setdefault(verdict.mutant.operator, Counter())[verdict.status] += 1
    for operator, by in sorted(counts.items()):
        table.add_row(operator, str(by.total()), *(str(by[status]) for status in STATUSES))
    console.print(table)
    console.print("found by: " + ", ".join(f"{id} {count}" for id, count in result.killers.most_common()))
    for verdict in result.of("survived"):
        console.print(f"\nsurvived: {verdict.mutant.key}\n{diff(source, verdict.mutant)}", markup=False)


def _row(verdict: Verdict) -> dict[str, object]:
    mutant = verdict.mutant
    return {
        "mutant": mutant.key,
        "operator": mutant.operator,
        "line": mutant.line,
        "status": verdict.status,
        "by": verdict.by,
        "scenario": verdict.scenario,
        "reason": verdict.reason,
    }


def _with_progress(
    source: Path, contract: str, engine: str, jobs: int, dask: str | None, only: str, tests: Path | None
) -> Mutation:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from stakesim.gate import mutation_run

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, done = bar.add_task("compiling", total=None), Counter[str]()

        def advance(verdict: Verdict) -> None:
            done[verdict.status] += 1
            bar.update(task, description=", ".join(f"{count} {status}" for status, count in done.items()))

        return mutation_run.mutate(source, contract, engine, jobs, only, tests, advance, dask)
