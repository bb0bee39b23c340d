"""Files of results: each is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stakesim.errors import StakesimError


class OutputError(StakesimError):
    """A file of results can't be written."""


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Gives the path of a file to write, which becomes `file` once it is complete; an interruption leaves nothing.

    Raises:
        OutputError: It can't be written, as the disk is full.
    """
    unfinished = file.with_name(f"{file.name}.unfinished")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.replace(file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{file} can't be written: {reason}; make room, or name another folder") from error
    finally:
        with suppress(OSError):  # the folder may not be one
            unfinished.unlink(missing_ok=True)
