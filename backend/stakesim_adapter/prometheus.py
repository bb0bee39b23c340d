"""Runs a Prometheus that scrapes a service, for tests and for pictures of the dashboard."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from stakesim_adapter.faults.poolers import free_port

MISSING = "Prometheus is not installed: run `apt-get install prometheus` on Debian, `brew install prometheus` on macOS."
START_TIMEOUT_S = 30


class Prometheus:
    """Queries a running Prometheus.

    Args:
        url: Its URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: Any) -> Any:
        """Returns the data of a response of its HTTP API.

        Raises:
            ValueError: It refuses the query; the message has its words.
            httpx.HTTPError: It does not answer.
        """
        response = httpx.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=30, trust_env=False)
        body = response.json()
        if body["status"] != "success":
            raise ValueError(f"{parameters}: {body['error']}")
        return body["data"]

    def is_ready(self) -> bool:
        """Returns whether it answers queries, and has tried to scrape the service. It takes some seconds for that."""
        with suppress(httpx.HTTPError):
            is_up = httpx.get(f"{self._url}/-/ready", timeout=5, trust_env=False).status_code == 200
            return is_up and bool(self.get("query", query="up")["result"])
        return False


@contextmanager
def prometheus(folder: Path, config: Path, target: str, every_s: int) -> Iterator[Prometheus]:
    """Runs Prometheus with a configuration, on another target and interval, and ends it at the end.

    Args:
        folder: Where it stores its data.
        config: Its configuration, whose rule files lie beside it.
        target: Host and port of the service.
        every_s: Seconds between two scrapes, and between two evaluations of the rules.

    Raises:
        FileNotFoundError: It is not installed.
        TimeoutError: It does not start.
    """
    program, port = shutil.which("prometheus"), free_port()
    if program is None:
        raise FileNotFoundError(MISSING)
    settings = yaml.safe_load(config.read_text())
    settings["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{every_s}s")
    settings["rule_files"] = [str(config.parent / name) for name in settings["rule_files"]]
    settings["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    own_config, log = folder / "prometheus.yml", folder / "prometheus.log"
    own_config.write_text(yaml.safe_dump(settings))
    options = {
        "config.file": own_config,
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    command = [program, *(f"--{name}={value}" for name, value in options.items())]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        running, deadline = Prometheus(f"http://127.0.0.1:{port}"), time.monotonic() + START_TIMEOUT_S
        while not running.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"Prometheus does not start: {log.read_text()[-1000:]}")
            time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(30)
