"""Debian's Prometheus with the project's alert rules, whose waiting times are shortened."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from stakesim_adapter.prometheus import Prometheus, prometheus

MONITORING = Path(__file__).parents[3] / "backend" / "monitoring"
RULES = MONITORING / "alerts.yml"
PROGRAMS = ("prometheus", "curl", "jq")
SCRAPE_EVERY_S = 1
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FASTER, _SHORTEST_S, _RESTART_S = 12, 2, 10
"""How many times a `for` is shortened, and the seconds that it has at least."""
_WINDOW_S = 6
"""Seconds of every shortened window."""


def missing_programs() -> str | None:
    """Returns what to install for these tests, in a sentence; None if all is there."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return (
        f"{', '.join(missing)} not installed: run `apt-get install {' '.join(missing)}` on Debian." if missing else None
    )


def seconds_of(duration: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))


def rules() -> dict[str, dict[str, Any]]:
    """Returns the rules of alerts by name."""
    groups = yaml.load(RULES.read_text(), yaml.CSafeLoader)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def shortened(text: str) -> str:
    """Returns the rules with short waiting times; expressions stay as they are but for their windows."""
    return "- alert:".join(_shortened_rule(rule) for rule in text.split("- alert:"))


def _shortened_rule(text: str) -> str:
    """Waits at least for a restart in a rule about `up`, as that takes as long here as in production."""
    shortest = _RESTART_S if "up{" in text else _SHORTEST_S

    def short_for(match: re.Match[str]) -> str:
        return f"{match[1]}{max(seconds_of(match[2]) // _FASTER, shortest)}s"

    text = re.sub(r"(?m)^(\s*for:\s*)(\w+)", short_for, text)
    return re.sub(r"\[\d+[smhd]\w*\]", f"[{_WINDOW_S}s]", text)


@dataclass(frozen=True)
class Alerts:
    """The alerts of a running Prometheus that scrapes one service."""

    prometheus: Prometheus

    def active(self) -> dict[str, Any]:
        """Returns the alerts that are pending or firing, by name; the earliest of each name."""
        alerts = sorted(self.prometheus.get("alerts")["alerts"], key=lambda alert: str(alert["activeAt"]), reverse=True)
        return {alert["labels"]["alertname"]: alert for alert in alerts}

    def fired_since(self, started_at: float, severity: str) -> set[str]:
        """Returns the names of the alerts of a severity that were firing at any time since then."""
        query = f'ALERTS{{alertstate="firing",severity="{severity}"}}'
        found = self.prometheus.get("query_range", query=query, start=started_at, end=time.time(), step="0.5")
        return {series["metric"]["alertname"] for series in found["result"]}


@contextmanager
def alerts(folder: Path, target: str) -> Iterator[Alerts]:
    """Runs Prometheus with the shortened rules on the metrics of the service at `target`, and ends it at the end."""
    own = folder / "monitoring"
    own.mkdir(parents=True)
    shutil.copy(MONITORING / "prometheus.yml", own)
    (own / "alerts.yml").write_text(shortened(RULES.read_text()))
    with prometheus(folder, own / "prometheus.yml", target, SCRAPE_EVERY_S) as running:
        yield Alerts(running)
