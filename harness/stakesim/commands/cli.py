"""The command `stakesim`. Exit codes: 0 all held, 1 findings, 2 trouble (bad input, something missing)."""

from __future__ import annotations

import functools
import gc
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from stakesim.commands.bench import bench
from stakesim.commands.faults import faults
from stakesim.commands.gate import coverage, gas, gate, mutate, opinions
from stakesim.commands.init import init
from stakesim.commands.release import deploy, verify
from stakesim.commands.sweep import sweep

if TYPE_CHECKING:
    from rich.console import Console

    from stakesim.campaign.result import CampaignResult
    from stakesim.evm.compiler import Artifact
    from stakesim.project import Project
    from stakesim.runner.scenario_result import ScenarioResult


class _Commands(TyperGroup):
    """The library's commands, which have priority, and those of the project.

    The project's are imported only when one of them, or help, is asked for.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        gc.disable()  # much is imported for it, and then the process ends
        super().format_help(ctx, formatter)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or _project_commands().get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        from stakesim.errors import StakesimError

        own = super().list_commands(ctx)
        try:
            return list(dict.fromkeys([*own, *_project_commands()]))
        except StakesimError as error:
            typer.echo(f"stakesim: {error}", err=True)
            return own


def _project_commands() -> Mapping[str, Any]:
    """Those of the `commands` that the project of the working directory names.

    Raises:
        ProjectError: They can't be imported.
    """
    from stakesim.project import current_project

    return _commands_of(current_project())


@functools.cache
def _commands_of(project: Project) -> Mapping[str, Any]:
    if project.commands is None:
        return {}
    app = project.load(project.commands)
    if not isinstance(app, typer.Typer):
        from stakesim.project import ProjectError

        raise ProjectError(
            f"[tool.stakesim] names {project.commands} as `commands`, which is no typer.Typer: name one."
        )
    found = typer.main.get_command(app)
    return getattr(found, "commands", {found.name: found})


cli = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Simulation and testing harness for the stake contract and the backend that drives it.",
)

cli.command()(init)
cli.command()(deploy)
cli.command()(verify)
cli.command()(faults)
cli.command()(bench)
cli.command()(sweep)
cli.command()(gate)
cli.command()(mutate)
cli.command()(coverage)
cli.command()(gas)
cli.command()(opinions)

PASS, FINDINGS, TROUBLE = 0, 1, 2
DEFAULT_RUNS = 5

Engine = Annotated[
    str | None,
    typer.Option(
        help="py-evm or revm (in process), anvil (a node, started here), or rpc:URL.  [default: py-evm; for the driver "
        "contract revm, where it is installed]"
    ),
]
Contract = Annotated[
    str | None,
    typer.Option(
        help="A contract to play instead of EventStake: a Solidity file (FILE.sol:Name), or an artifact (.json) of "
        "Foundry's or Hardhat's."
    ),
]
Jobs = Annotated[int, typer.Option("-j", "--jobs", help="Processes to play in.", min=1)]
Dask = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT, whose workers play instead (docs/CLUSTER.md)."),
]
Driver = Annotated[
    str | None,
    typer.Option(
        help="What carries the actions out: contract (the contract alone), or a way to call the project's backend, as "
        "services or api.  [default: the backend's first; contract where there is none]"
    ),
]


@cli.command()
def run(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="Scenarios (files or names), profiles, populations; all scenarios and every profile if left out.",
            metavar="[SCENARIOS|PROFILES]",
        ),
    ] = None,
    engine: Engine = None,
    runs: Annotated[int, typer.Option(help="Scenarios to draw from each profile.", min=1)] = DEFAULT_RUNS,
    seed: Annotated[int, typer.Option(help="The campaign's seed: the same seed plays the same scenarios.", min=0)] = 0,
    jobs: Jobs = 1,
    dask: Dask = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the ledger, the summary and failing scenarios.")] = None,
    driver: Driver = None,
    contract: Contract = None,
) -> None:
    """Run scenarios and check every payout to the wei."""
    gc.disable()  # what is imported now stays; looking through it again and again takes half a second
    from stakesim.project import current_project
    from stakesim.runner import scenario_files

    has_backend = current_project().backend is not None and driver != "contract"
    disturbed = scenario_files.for_backends() if has_backend else []
    items = what or [*map(str, (*disturbed, *scenario_files.scripted())), *scenario_files.profiles()]
    result = _with_progress(items, engine, runs, seed, jobs, dask, driver, contract=contract)
    options = f"--runs {runs} --seed {seed}{_options(engine, driver)}"
    _tell(result, out, f"stakesim run {' '.join(what or [])} {options}", contract)


@cli.command()
def fuzz(
    profile: Annotated[str, typer.Option(help="Whose people, terms, market and mischief.")] = "hostile",
    steps: Annotated[int, typer.Option(help="Actions of each walk.", min=1)] = 30,
    runs: Annotated[int, typer.Option(help="Walks.", min=1)] = 100,
    engine: Engine = None,
    seed: Annotated[int, typer.Option(help="The same seed takes the same walks.", min=0)] = 0,
    jobs: Jobs = 1,
    dask: Dask = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the ledger, the summary and failing walks.")] = None,
    driver: Driver = None,
    contract: Contract = None,
) -> None:
    """Take long random walks through everything that can be done, and shrink what fails to its shortest story."""
    gc.disable()
    result = _with_progress([profile], engine, runs, seed, jobs, dask, driver, steps, contract)
    command = f"stakesim fuzz --profile {profile} --steps {steps} --runs {runs} --seed {seed}"
    _tell(result, out, command + _options(engine, driver), contract)


@cli.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A scenario file.")],
    engine: Engine = None,
    driver: Driver = None,
    contract: Contract = None,
) -> None:
    """Play one scenario and show it step by step."""
    gc.disable()
    from stakesim.campaign import campaign
    from stakesim.campaign.report import show_steps

    result = campaign.run(file, engine=engine, driver=driver, contract=_loaded(contract), probing=False)
    show_steps(result, _console())
    raise typer.Exit(PASS if result.ok else FINDINGS)


@cli.command()
def check(files: Annotated[list[Path], typer.Argument(help="Scenario files.")]) -> None:
    """Read scenario files and say what is wrong with them by the rules alone, without running them.

    Wrong are also a `received` or a `fails` that is not what the reference model says.
    """
    from stakesim.model.rehearsal import disagreements
    from stakesim.scenario.scenario import load

    wrong = [problem for file in files for problem in disagreements(load(file))]
    for problem in wrong:
        _console().print(problem, highlight=False, markup=False)
    verdict = f"{len(wrong)} expectations are not what the rules say" if wrong else "well-formed, and as the rules say"
    _console().print(f"{len(files)} files: {verdict}", highlight=False)
    raise typer.Exit(FINDINGS if wrong else PASS)


@cli.command("compile")
def compile_(
    write: Annotated[
        bool, typer.Option(help="Write the artifacts that ship with the library, and the backend's copy of EventStake.")
    ] = False,
) -> None:
    """Compile the packaged contracts; say whether the committed artifacts are those of the sources."""
    import json

    from stakesim.evm import compiler
    from stakesim.paths import checkout
    from stakesim.project import current_project

    copy = current_project().artifact
    if write and copy is None and checkout() is None:
        _fail(
            "there is nothing to write, as the artifacts that ship are the installed library's own: for a copy of "
            "EventStake in your project, name its file as `artifact` in [tool.stakesim]"
        )
    ship = compiler.build_packaged_artifacts()
    for name, artifact in ship["contracts"].items():
        if size := len(artifact["deployed_bytecode"]) // 2 - 1:
            _console().print(f"{name:24} {size:6} bytes  {artifact['source']}", highlight=False)
    wanted = {compiler.PACKAGED_ARTIFACTS: ship} if checkout() else {}
    if copy:
        wanted[copy] = compiler.build_production_artifact()
    for file, content in wanted.items():
        text = json.dumps(content, indent=1) + "\n"
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            _fail(f"{file} is not what the sources compile to: run `stakesim compile --write`", FINDINGS)


def _tell(result: CampaignResult, out: Path | None, command: str, contract: str | None) -> None:
    """Shows what came of a campaign, saves what failed, and ends with the exit code for it."""
    from stakesim.campaign.report import save_failures, show, write_report
    from stakesim.project import current_project

    kept = Path("reports/failures") if contract else current_project().failures
    verdict = PASS if result.ok else FINDINGS
    try:
        save_failures(result, out / "failures" if out else kept, contract)
    except OSError as error:  # what was found is shown all the same
        typer.echo(f"stakesim: the failing scenarios can't be saved: {error}", err=True)
    show(result, _console())
    try:
        if out:
            write_report(result, out, command + (f" --contract {contract}" if contract else ""))
            _console().print(f"report: {out / 'summary.md'}, ledger: {out / 'ledger.csv'}", highlight=False)
    except OSError as error:
        typer.echo(f"stakesim: the report can't be written: {error}", err=True)
        verdict = verdict or TROUBLE
    raise typer.Exit(verdict)


def _options(engine: str | None, driver: str | None) -> str:
    return "".join(f" --{name} {value}" for name, value in (("engine", engine), ("driver", driver)) if value)


def _with_progress(
    items: list[str],
    engine: str | None,
    runs: int,
    seed: int,
    jobs: int,
    dask: str | None,
    driver: str | None,
    steps: int | None = None,
    contract: str | None = None,
) -> CampaignResult:
    """The campaign with a progress bar, where somebody is looking."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stakesim.campaign import campaign
    from stakesim.runner import scenario_files

    artifact = _loaded(contract)
    total = sum(1 if scenario_files.find_scenario_file(item) else runs for item in items)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task("playing", total=total)

        def advance(played: ScenarioResult) -> None:
            if not gc.isenabled():
                gc.freeze()
                gc.enable()
            bar.update(task, advance=1, description=played.scenario.name[:28])

        return campaign.run(
            items,
            engine,
            runs=runs,
            seed=seed,
            jobs=jobs,
            progress=advance,
            driver=driver,
            steps=steps,
            contract=artifact,
            dask=dask,
        )


def _loaded(contract: str | None) -> Artifact | None:
    from stakesim.evm.contract_file import load_contract

    return load_contract(contract) if contract else None


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True)


def _fail(message: str, code: int = TROUBLE) -> None:
    typer.echo(f"stakesim: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """Runs the command line; what the user can mend ends as one sentence and exit code 2."""
    from stakesim.errors import StakesimError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled job puts away what it opened
    try:
        cli()
    except (StakesimError, OSError) as error:
        typer.echo(f"stakesim: {error}", err=True)
        sys.exit(TROUBLE)
