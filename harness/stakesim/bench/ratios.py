"""Ratios of speeds to that of the bare loop: kept in a file, and compared with those of a later run.

Ratios of one run on one machine are compared, as rates of two machines, or of a busy and an idle one, tell nothing.
Ratios of times differ between processors, too, though less: write the file anew on the machine that checks. Ratios of
function calls are the same on each machine, with one version of Python and of the packages.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from stakesim.bench.contenders import Contender
from stakesim.errors import StakesimError
from stakesim.json_text import parse_json

FILE, CALLS_FILE = "ratios.json", "call_ratios.json"
"""Names of the files with ratios of times, beside RESULTS.md, and of function calls."""
ALLOWED_LOSS = 0.15
"""Share of a ratio that may be lost: more than rounds of an idle machine differ by."""


def ratios(contenders: Sequence[Contender]) -> dict[str, float]:
    """Of each contender of this project that was measured, the ratio of its speed to that of the base.

    A ratio is the median of those of the rounds, in each of which both had their turn: what slows the machine for some
    rounds slows both.

    Args:
        contenders: The base first.
    """
    base, *others = contenders
    return {
        other.name: median(rate / of_base for rate, of_base in zip(other.rates, base.rates, strict=False))
        for other in others
        if other.is_ours and other.rates
    }


def write(contenders: Sequence[Contender], file: Path) -> None:
    """Writes the ratios into a file, whose folder need not be there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rounded = {name: float(f"{ratio:.3g}") for name, ratio in ratios(contenders).items()}
    file.write_text(json.dumps(rounded, indent=2) + "\n")


def read(file: Path) -> dict[str, float]:
    """Reads the ratios of a file.

    Raises:
        StakesimError: They are not there, or are not what `write` writes.
    """
    command = f"stakesim bench{' --calls' if file.name == CALLS_FILE else ''} --out {shlex.quote(str(file.parent))}"
    try:
        kept: dict[str, float] = parse_json(file.read_text())
        if not all(isinstance(ratio, float | int) and ratio > 0 for ratio in kept.values()):
            raise ValueError("a ratio is not a positive number")
    except FileNotFoundError:
        raise StakesimError(f"There is no {file} to compare with: write it with {command}.") from None
    except (ValueError, AttributeError):
        raise StakesimError(f"{file} has no ratios: write it anew with {command}.") from None
    return kept


def losses(now: Mapping[str, float], kept: Mapping[str, float]) -> list[str]:
    """A sentence for each contender whose ratio is smaller than the kept one by more than `ALLOWED_LOSS`."""
    return [
        f"{name} is slower: {ratio:.3g} times the bare loop, and was {before:.3g} times ({ratio / before - 1:+.0%})"
        for name, ratio in now.items()
        if (before := kept.get(name, 0)) and ratio < (1 - ALLOWED_LOSS) * before
    ]
