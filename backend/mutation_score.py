"""Prints the mutation score of the services by module, and all surviving mutants; see `make mutants`.

Run it in the folder in which mutmut ran. A mutant that no test reaches counts as survived, and so does one whose tests
did not end in time, as they may on a busy machine. The exit code is 1 if the score is below `MIN_SCORE`, or if the list
of equivalent mutants is out of date.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from rich.console import Console
from rich.table import Table

MIN_SCORE = 0.95
"""Minimum share of killed mutants among all that are not equivalent."""
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
"""Reviewed mutants that behave like the original code: function and changed lines, with the reason."""
STATUSES = {
    "killed": "killed",
    "segfault": "killed",  # endless recursion
    "survived": "survived",
    "timeout": "survived",
    "no tests": "survived",
}


def describe(name: str, file: Path) -> str:
    """Returns the mutant's function, and the changed lines before and after."""
    lines = [line for line in get_diff_for_mutant(name, path=file).splitlines() if line[:3] not in ("---", "+++")]
    before, after = ("; ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    function = name.partition("__mutmut_")[0].rpartition(".")[2].removeprefix("x").strip("_ǁ").replace("ǁ", ".")
    return f"{file.stem}.{function}: {before} -> {after}"


def main() -> int:
    """Prints the table, and returns the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    equivalent = {row["mutant"] for row in json.loads(EQUIVALENT.read_text())}
    table = Table("module", "mutants", "equivalent", "killed", "survived", "share")
    total: Counter[str] = Counter()
    survivors, seen_equivalents = [], set()
    for file in walk_mutatable_files():
        results = SourceFileMutationData(path=file)
        results.load()
        count: Counter[str] = Counter()
        for name, code in results.exit_code_by_key.items():
            status = STATUSES.get(status_by_exit_code[code])
            if status is None:
                raise SystemExit(
                    f"{name} was not tested to the end ({status_by_exit_code[code]}): run make mutants again"
                )
            if status == "survived" and (mutant := describe(name, file)) in equivalent:
                status = "equivalent"
                seen_equivalents.add(mutant)
            elif status == "survived":
                survivors.append(mutant)
            count[status] += 1
        if count:
            table.add_row(*table_row(file.stem, count))
        total += count
    table.add_row(*table_row("all", total))
    console.print("\n".join(survivors), markup=False)
    console.print(table)
    stale = sorted(equivalent - seen_equivalents)
    if stale:
        console.print(f"{EQUIVALENT.name} lists mutants that are killed or do not exist:", *stale, sep="\n  ")
    return int(bool(stale) or score(total) < MIN_SCORE)


def score(count: Counter[str]) -> float:
    """Returns the share of killed mutants among all that are not equivalent."""
    return count["killed"] / ((count["killed"] + count["survived"]) or 1)


def table_row(module: str, count: Counter[str]) -> list[str]:
    """Returns a module's row of the table."""
    numbers = (count.total(), count["equivalent"], count["killed"], count["survived"])
    return [module, *map(str, numbers), f"{score(count):.1%}"]


if __name__ == "__main__":
    sys.exit(main())
