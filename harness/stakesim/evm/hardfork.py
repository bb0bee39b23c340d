"""The hard forks whose rules an engine can have. Imports nothing, as the command line needs the names."""

from typing import Literal, TypeAlias

Hardfork: TypeAlias = Literal["cancun", "prague", "osaka"]
"""A version of a network's rules, by the name of the hard fork that brought it."""

DEFAULT_HARDFORK: Hardfork = "prague"
"""Rules of an engine that is not told which: py-evm's, the latest that an engine in this process has."""
