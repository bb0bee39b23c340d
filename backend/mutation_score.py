"""What mutmut found in the services, by module, with all survivors; see `make mutants`. Exit code 1: too many live.

It runs where mutmut ran. A mutant that no test reaches has survived, and so has one whose tests did not end in time: a
machine that is busy looks the same.
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

LEAST = 0.95
"""Share of killed ones among those that can be."""
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
"""Reviewed: mutants that nobody can tell from the service, by function and what is changed, with the reason."""
STATUSES = {
    "killed": "killed",
    "segfault": "killed",  # it called itself without end
    "survived": "survived",
    "timeout": "survived",
    "no tests": "survived",
}


def changed(name: str, file: Path) -> str:
    """The mutant's function, and its lines before and after."""
    lines = [line for line in get_diff_for_mutant(name, path=file).splitlines() if line[:3] not in ("---", "+++")]
    before, after = ("; ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    function = name.partition("__mutmut_")[0].rpartition(".")[2].removeprefix("x").strip("_ǁ").replace("ǁ", ".")
    return f"{file.stem}.{function}: {before} -> {after}"


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    known = {row["mutant"] for row in json.loads(EQUIVALENT.read_text())}
    table = Table("module", "mutants", "equivalent", "killed", "survived", "share")
    total: Counter[str] = Counter()
    living, met = [], set()
    for file in walk_mutatable_files():
        found = SourceFileMutationData(path=file)
        found.load()
        count: Counter[str] = Counter()
        for name, code in found.exit_code_by_key.items():
            status = STATUSES.get(status_by_exit_code[code])
            if status is None:
                raise SystemExit(
                    f"{name} was not tried to its end ({status_by_exit_code[code]}): run make mutants again"
                )
            if status == "survived" and (mutant := changed(name, file)) in known:
                status = "equivalent"
                met.add(mutant)
            elif status == "survived":
                living.append(mutant)
            count[status] += 1
        if count:
            table.add_row(*figures(file.stem, count))
        total += count
    table.add_row(*figures("all", total))
    console.print("\n".join(living), markup=False)
    console.print(table)
    stale = sorted(known - met)
    if stale:
        console.print(f"{EQUIVALENT.name} names mutants that are killed, or that there are not:", *stale, sep="\n  ")
    return int(bool(stale) or share(total) < LEAST)


def share(count: Counter[str]) -> float:
    return count["killed"] / ((count["killed"] + count["survived"]) or 1)


def figures(module: str, count: Counter[str]) -> list[str]:
    numbers = (count.total(), count["equivalent"], count["killed"], count["survived"])
    return [module, *map(str, numbers), f"{share(count):.1%}"]


if __name__ == "__main__":
    sys.exit(main())
