"""Lists of what somebody has reviewed of a contract: JSON, each row with a file's name, a key and a reason.

Those of the packaged contracts are beside them. Another contract has those of the folder that `reviewed` in
`[tool.stakesim]` names.
"""

from __future__ import annotations

import json
from pathlib import Path

from stakesim.evm.compiler import CONTRACTS
from stakesim.gate.errors import MalformedList
from stakesim.project import current_project


def reviewed_folder(contract: Path) -> Path | None:
    """Returns the folder of the lists for a contract; None if there is none.

    Args:
        contract: The contract's file.
    """
    return CONTRACTS if contract.resolve().parent == CONTRACTS.resolve() else current_project().reviewed


def reviewed_rows(contract: Path, name: str, *keys: str) -> list[dict[str, str]]:
    """Reads the rows on a contract's file; none if there is no such list.

    Args:
        contract: The contract's file.
        name: File name of the list.
        keys: What each row has beside `file`: texts.

    Raises:
        MalformedList: The list can't be read.
    """
    folder = reviewed_folder(contract)
    if folder is None or not (folder / name).exists():
        return []
    try:
        rows = json.loads((folder / name).read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError
        wrong = [row for row in rows if not all(row[key] and isinstance(row[key], str) for key in ("file", *keys))]
    except (OSError, ValueError, KeyError, TypeError):
        wrong = [name]
    if wrong:
        raise MalformedList(f"{folder / name} is no list of rows with {', '.join(('file', *keys))}: mend it.")
    return [row for row in rows if row["file"] == contract.name]
