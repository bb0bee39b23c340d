"""`stakesim check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.options import reports
from stakesim.commands.terminal import console, finish, print_finding

if TYPE_CHECKING:
    from stakesim.economics.sweep_file import SweepFile
    from stakesim.scenario.scenario import Scenario


@reports
def check(
    items: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files of scenarios, populations, sweeps, questions and so on, folders of them, or names.",
            metavar="[FILES|FOLDERS|NAMES]",
            show_default="the project's scenarios folder",
        ),
    ] = None,
) -> None:
    """Check files of scenarios, profiles, populations and sweeps, without running anything.

    Scenarios are also played by the reference model: reports expectations, in `received` or `fails`, that differ from
    what the model says.
    """
    from stakesim.project import current_project
    from stakesim.runner import scenario_files
    from stakesim.schema.errors import ErrorCollector

    items = items or [str(current_project().scenario_folders[0])]
    errors, disagreements, files = ErrorCollector(), 0, dict[Path, None]()
    for item in items:
        with errors.collect():
            files |= dict.fromkeys(scenario_files.files_of(item))
    for file in files:
        with errors.collect():
            for disagreement in _check(file):
                disagreements += 1
                console(findings=True).print(disagreement, markup=False)
                print_finding("expectation", disagreement)
    errors.raise_errors()
    verdict = (
        f"{disagreements} expectations are not what the rules say"
        if disagreements
        else "well-formed, and as the rules say"
    )
    console().print(f"{len(files)} files: {verdict}")
    finish(ok=not disagreements, files=len(files))


def _check(file: Path) -> Iterator[str]:
    """Checks a file by the format that most of its fields belong to; yields the expectations of a scenario that fail.

    Raises:
        InputError: It is not valid.
    """
    from stakesim.decisions.question import Question, load_question
    from stakesim.economics.sweep_file import SweepFile
    from stakesim.faults.episode_script import EpisodeScript, load_script
    from stakesim.generate.profiles import Profile, load_profile
    from stakesim.population.population import Population, load_population
    from stakesim.scenario.scenario import Scenario, load
    from stakesim.schema.yaml_file import fields_of

    loaders: dict[Any, Callable[[Path], object]] = {
        Scenario: load,
        Profile: load_profile,
        Population: load_population,
        SweepFile: _load_sweep,
        Question: load_question,
        EpisodeScript: load_script,
    }
    fields = fields_of(file)
    model = max(loaders, key=lambda model: len(fields & model.model_fields.keys()))  # the first of several
    content = loaders[model](file)
    if isinstance(content, Scenario):
        yield from _disagreements(file, content)


def _load_sweep(file: Path) -> SweepFile:
    """Reads a sweep, and checks its population and the terms of its policies."""
    from stakesim.economics.cells import policy_grid
    from stakesim.economics.sweep_file import load_sweep, population_of
    from stakesim.schema.errors import FileError, InputError, place
    from stakesim.schema.yaml_file import line_in_file

    sweep, field = load_sweep(file), "population"
    try:
        population = population_of(sweep)
        field = "policies"
        policy_grid(sweep.policies, population.terms)
    except FileError:  # the population's own
        raise
    except InputError as error:
        raise FileError(f"{place(file, line_in_file(file, (field,)), field)}: {error}") from None
    return sweep


def _disagreements(file: Path, scenario: Scenario) -> Iterator[str]:
    from stakesim.model.rehearsal import disagreements
    from stakesim.schema.errors import place
    from stakesim.schema.validation import format_path
    from stakesim.schema.yaml_file import line_in_file

    for path, explanation in disagreements(scenario):
        yield f"{place(file, line_in_file(file, path), format_path(path))}: {explanation}"
