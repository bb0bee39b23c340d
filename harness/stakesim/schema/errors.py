"""Errors of input files, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeAlias

from stakesim.errors import StakesimError

FieldPath: TypeAlias = tuple[str | int, ...]
"""Where a field is in a file: ("actions", 3, "seats")."""


class InputError(StakesimError):
    """A scenario, profile, population, sweep or price series is not valid.

    The message is one sentence: what is wrong, and what to do about it.
    """


class FileError(InputError):
    """Files are not valid. The message has a line for each problem: `FILE:LINE: FIELD: what is wrong; what to do`.

    Attributes:
        problems: The lines.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class FieldError(ValueError):
    """A field contradicts another one.

    Raised inside pydantic's validators, which do not tell pydantic the field that is to blame.

    Attributes:
        path: The field, relative to the model whose validator raises the error.
    """

    def __init__(self, path: FieldPath, message: str) -> None:
        super().__init__(message)
        self.path = path


class FieldErrors(ValueError):
    """Several fields contradict others.

    Attributes:
        errors: An error for each of them.
    """

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(map(str, self.errors)))


class ErrorCollector:
    """Collects the errors of several files, so that all of them can be told at once."""

    def __init__(self) -> None:
        """Begins with no errors."""
        self._errors: list[InputError] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Collects an `InputError` of the block."""
        try:
            yield
        except InputError as error:
            self._errors.append(error)

    def raise_errors(self) -> None:
        """Raises what was collected.

        Raises:
            InputError: The only error as it is, or one `FileError` with the problems of all.
        """
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            problems = (error.problems if isinstance(error, FileError) else (str(error),) for error in self._errors)
            raise FileError(*(problem for each in problems for problem in each))


def place(source: object, line: int, field: str = "") -> str:
    """Where a problem is, as editors and terminals understand it: `FILE:LINE`, then the field if there is one."""
    return f"{source}:{line}: {field}" if field else f"{source}:{line}"


def suggestion(name: str, names: Iterable[str]) -> str:
    """Advice for an unknown name: the name that was probably meant, or else all names that exist."""
    names = list(names)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none yet"
