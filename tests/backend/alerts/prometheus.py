"""Debian's Prometheus with the project's alert rules, whose waiting times are shortened."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from stakesim_adapter.faults.poolers import free_port

RULES = Path(__file__).parents[3] / "backend" / "monitoring" / "alerts.yml"
PROGRAMS = ("prometheus", "curl", "jq")
SCRAPE_EVERY = "1s"
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
    groups = yaml.safe_load(RULES.read_text())["groups"]
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
class Prometheus:
    """A running Prometheus that scrapes one service."""

    url: str

    def _get(self, path: str, **parameters: Any) -> Any:
        return httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()["data"]

    def active(self) -> dict[str, Any]:
        """Returns the alerts that are pending or firing, by name; the earliest of each name."""
        alerts = sorted(self._get("alerts")["alerts"], key=lambda alert: str(alert["activeAt"]), reverse=True)
        return {alert["labels"]["alertname"]: alert for alert in alerts}

    def firing(self) -> set[str]:
        return {name for name, alert in self.active().items() if alert["state"] == "firing"}

    def fired_since(self, started_at: float, severity: str) -> set[str]:
        """Returns the names of the alerts of a severity that were firing at any time since then."""
        query = f'ALERTS{{alertstate="firing",severity="{severity}"}}'
        found = self._get("query_range", query=query, start=started_at, end=time.time(), step="0.5")
        return {series["metric"]["alertname"] for series in found["result"]}


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Runs Prometheus on the metrics of the service at `target`, and ends it at the end."""
    port = free_port()
    folder.mkdir()
    (folder / "alerts.yml").write_text(shortened(RULES.read_text()))
    every = {"scrape_interval": SCRAPE_EVERY, "scrape_timeout": SCRAPE_EVERY, "evaluation_interval": "500ms"}
    scraped = {"job_name": "stakesim", "static_configs": [{"targets": [target]}]}
    config = {"global": every, "rule_files": ["alerts.yml"], "scrape_configs": [scraped]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    opened = Prometheus(f"http://127.0.0.1:{port}")
    try:
        _wait_until_ready(opened, process, folder / "log")
        yield opened
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(opened: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{opened.url}/-/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"Prometheus does not start: {log.read_text()}")
