"""Gives the functions of an imported module other code, also those that something holds already."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

Changes = dict[tuple[str, CodeType], CodeType]
"""New code objects by file and old code object: those of two files may be equal."""


def functions_of(root: Path) -> list[FunctionType]:
    """All functions that there are of files in a folder."""
    functions = [one for one in _objects() if isinstance(one, FunctionType)]
    return [function for function in functions if function.__code__.co_filename.startswith(str(root))]


def caches_of(*packages: str) -> list[Any]:
    """All functions of packages that cache what they return."""
    caches = [one for one in _objects() if isinstance(one, functools._lru_cache_wrapper)]
    return [cache for cache in caches if cache.__module__.partition(".")[0] in packages]


def _objects() -> list[Any]:
    gc.unfreeze()  # a conftest.py may have frozen modules and tests, and frozen objects are not listed
    return gc.get_objects()


def swap(functions: Iterable[FunctionType], changes: Changes) -> int:
    """Gives each function that has one of these code objects the other one.

    Returns:
        Number of functions that were changed.

    Raises:
        ValueError: A function's closure does not fit its new code.
    """
    count = 0
    for function in functions:
        if new := changes.get((function.__code__.co_filename, function.__code__)):
            function.__code__ = new
            count += 1
    return count


def changes(old: CodeType, new: CodeType) -> Iterator[tuple[tuple[str, CodeType], CodeType]]:
    """Code objects within two of one module, by their order, so far as both have them."""
    inner_old, inner_new = _within(old), _within(new)
    if [code.co_name for code in inner_old] != [code.co_name for code in inner_new]:
        return  # such as after a lambda was left out: the function around it makes them anew
    for one, other in zip(inner_old, inner_new, strict=True):
        if one != other:
            yield (one.co_filename, one), other
        yield from changes(one, other)


def _within(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]
