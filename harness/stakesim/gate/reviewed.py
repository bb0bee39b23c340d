"""Lists of what somebody has reviewed of a contract: JSON, each row with a file, a key and a reason.

The file is a path relative to the project, as `src/Stake.sol`, or for one contract of the file `src/Stake.sol:Stake`. A
name without a folder means the file of that name in the project's folder; if there is none there, those in all folders.

Those of the packaged contracts are beside them. Another contract has those of the folder that `reviewed` in
`[tool.stakesim]` names.
"""

from __future__ import annotations

from pathlib import Path

from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import ContractPath
from stakesim.gate.errors import MalformedList
from stakesim.json_text import parse_json
from stakesim.project import current_project


def reviewed_folder(contract: Path) -> Path | None:
    """Returns the folder of the lists for a contract; None if there is none.

    Args:
        contract: The contract's file.
    """
    return CONTRACTS if contract.resolve().parent == CONTRACTS.resolve() else current_project().reviewed


def reviewed_rows(file: Path, contract: str | None, name: str, *keys: str) -> list[dict[str, str]]:
    """Reads the rows on a contract; none if there is no such list.

    Args:
        file: The contract's file.
        contract: Its name; None: all contracts of the file.
        name: File name of the list.
        keys: What each row has beside `file`: texts.

    Raises:
        MalformedList: The list can't be read.
    """
    folder = reviewed_folder(file)
    if folder is None or not (folder / name).exists():
        return []
    try:
        rows = parse_json((folder / name).read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError
        if not all(row[key].strip() for row in rows for key in ("file", *keys)):
            raise ValueError
        root = CONTRACTS if folder == CONTRACTS else current_project().root
        return [row for row in rows if _is_about(row["file"], root, file, contract)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # or a name that no file can have
        raise MalformedList(f"{folder / name} is no list of rows with {', '.join(('file', *keys))}: mend it.") from None


def _is_about(named: str, root: Path, file: Path, contract: str | None) -> bool:
    """Whether a row's `file` names a contract."""
    path, only = ContractPath.parse(named)
    if None not in (only, contract) and only != contract:
        return False
    if path.name == str(path) and not (root / path).exists():
        return path.name == file.name
    return (root / path).resolve() == file.resolve()
