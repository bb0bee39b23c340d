"""The base class of the library's errors, and the error for a package that is not installed."""

from importlib.util import find_spec
from pathlib import Path

from stakesim.paths import checkout


class StakesimError(Exception):
    """Base class of every error that the library raises on purpose.

    Its message is one sentence that says what is wrong and what to do. The command line prints it and ends with exit
    code 2.
    """


class NotInstalled(StakesimError):
    """A package of an optional extra is not installed."""

    def __init__(self, feature: str, package: str | None, extra: str, alternative: str = "") -> None:
        """Builds the sentence.

        Args:
            feature: What needs the package, as the subject of the sentence.
            package: Import name of the package.
            extra: The extra that installs it.
            alternative: What to do instead of installing it.
        """
        install = f"pip install -e '.[{extra}]'" if checkout() else f"pip install 'stakesim[{extra}]'"
        advice = f", or {alternative}" if alternative else ""
        super().__init__(f"{feature} needs {package}, which is not installed: run `{install}`{advice}.")


def require(feature: str, extra: str, *packages: str) -> None:
    """Checks that packages are installed.

    Args:
        feature: What needs them, as the subject of the sentence.
        extra: The extra that installs them.
        packages: Import names.

    Raises:
        NotInstalled: A package is missing.
    """
    for package in packages:
        if find_spec(package) is None:
            raise NotInstalled(feature, package, extra)


def place_of(error: BaseException) -> str:
    """Returns where an error was raised, as ` (file.py:12)`; empty if it has no traceback."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return f" ({Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno})" if traceback else ""
