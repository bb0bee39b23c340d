"""Errors of input files, and what they have in common."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeAlias

from stakesim.errors import StakesimError

FieldPath: TypeAlias = tuple[str | int, ...]
"""Where a field is in a file: ("actions", 3, "seats")."""


class InputError(StakesimError):
    """A scenario, profile, population, sweep or price series is not valid.

    The message is one sentence with the file, the line, the field, what is wrong, and what to do about it.
    """


class FieldError(ValueError):
    """A field contradicts another one.

    Raised inside pydantic's validators, which do not tell pydantic the field that is to blame.

    Attributes:
        path: The field, relative to the model whose validator raises the error.
    """

    def __init__(self, path: FieldPath, message: str) -> None:
        super().__init__(message)
        self.path = path


def suggestion(name: str, names: Iterable[str]) -> str:
    """Advice for an unknown name: the name that was probably meant, or else all names that exist."""
    names = list(names)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none yet"
