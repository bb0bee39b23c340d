"""Kinds of differences that the diagnosis tells apart."""

from __future__ import annotations

from enum import Enum, auto


class Cause(Enum):
    """What kind of difference a violation is."""

    REFUSED = auto()
    """An action that must succeed failed."""
    WRONG_REFUSAL = auto()
    """An action that must fail failed with another error."""
    NOT_REFUSED = auto()
    """An action that must fail succeeded."""
    DATABASE_DIFFERS = auto()
    """A row of the backend's database says something else than the model, or claims another row's id."""
    INEXACT_PRICE = auto()
    """A price was converted from INR to wei inexactly."""
    OUT_OF_GAS = auto()
    """An exit runs out of gas."""
    INSOLVENT = auto()
    """The contract holds less than it owes."""
