"""The result of a check, and the error of a service that can't start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.core.errors import AppError


class NotReady(AppError):
    """The service can't start, as a setting or a fatal check failed."""

    code = "not_ready"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: Name of the check.
        ok: Whether it passed.
        finding: The result in a sentence.
        remedy: What to do if it failed.
        fatal: Whether the service must not start if it failed.
    """

    name: str
    ok: bool
    finding: str
    remedy: str = ""
    fatal: bool = False


def require_checks(checks: Iterable[Check]) -> None:
    """Runs all checks.

    Raises:
        NotReady: Fatal checks failed. The message has the finding and the remedy of each.
    """
    failed = [f"{check.finding} {check.remedy}" for check in checks if check.fatal and not check.ok]
    if failed:
        raise NotReady(" ".join(failed))
