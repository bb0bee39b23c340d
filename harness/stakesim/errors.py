"""The base of the library's errors."""

from importlib.util import find_spec
from pathlib import Path

from stakesim.paths import checkout


class StakesimError(Exception):
    """Something that the user can mend: one sentence that says what is wrong and what to do. Exit code 2."""


def place_of(error: BaseException) -> str:
    """` (file.py:12)`: where it was raised; empty where that is not known."""
    where = error.__traceback__
    while where and where.tb_next:
        where = where.tb_next
    return f" ({Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno})" if where else ""


class NotInstalled(StakesimError):
    """A package of an extra is missing."""

    def __init__(self, what: str, package: str | None, extra: str, otherwise: str = "") -> None:
        """what: that needs the package, as the sentence's subject. otherwise: what else can be done."""
        install = f"pip install -e '.[{extra}]'" if checkout() else f"pip install 'stakesim[{extra}]'"
        advice = f", or {otherwise}" if otherwise else ""
        super().__init__(f"{what} needs {package}, which is not installed: run `{install}`{advice}.")


def require(what: str, extra: str, *packages: str) -> None:
    """Raises `NotInstalled` for the first of these packages that is missing."""
    for package in packages:
        if find_spec(package) is None:
            raise NotInstalled(what, package, extra)
