"""Which of the planted bugs (contracts/test/planted/) `stakesim fuzz` finds, in which second, as CSV.

    python -m benchmarks.planted --seconds 300 --out reports/planted.csv
    python -m benchmarks.planted --seconds 300 --bug push-with-little-gas --bug as-first-seen

A search for one bug ends at its first finding; one for several at once goes on for its whole time, and has a line for
each finding.
"""

import csv
import random
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.searching import fuzz
from tests.harness.planted_bugs import bugs, planted, together, write


def main(
    seconds: Annotated[int, typer.Option(help="Time for each search.")] = 300,
    seed: Annotated[int, typer.Option(help="Of all searches.")] = 0,
    bug: Annotated[list[str] | None, typer.Option(help="Names of bugs or lists; all by default.")] = None,
    sample: Annotated[int | None, typer.Option(help="So many of them, drawn by the seed.")] = None,
    out: Annotated[Path, typer.Option(help="The CSV file.")] = Path("reports/planted.csv"),
) -> None:
    """Searches for each bug, and says at the end how many were found."""
    names = bug or [*bugs(), *together()]
    if sample is not None:
        names = random.Random(seed).sample(names, sample)
    out.parent.mkdir(parents=True, exist_ok=True)
    missed: list[str] = []
    with TemporaryDirectory() as folder, out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["bug", "kind", "seconds", "actions", "found as"])
        for name in names:
            contract = f"{write(Path(folder) / name, planted(name))}:EventStake"
            several = name in together()
            with closing(fuzz(contract, seed, seconds)) as searching:
                findings = list(searching if several else islice(searching, 1))
            kind = "several" if several else bugs()[name].kind
            table.writerows([name, kind, found["seconds"], found["actions"], found["name"]] for found in findings)
            if not findings:
                missed.append(name)
                table.writerow([name, kind, None, None, None])
            file.flush()
            typer.echo(f"{name}: {', '.join(found['name'] for found in findings) or 'missed'}")
    typer.echo(f"found {len(names) - len(missed)} of {len(names)}; missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    typer.run(main)
