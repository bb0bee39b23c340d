"""The alert rules: what promtool says of them, and what an operator gets with each."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from monitored import MONITORING, needs_prometheus, rules

TESTS = yaml.load((MONITORING / "alerts_test.yml").read_text(), yaml.CSafeLoader)["tests"]


def promtool(*arguments: str) -> None:
    result = subprocess.run(["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_prometheus
@pytest.mark.slow
def test_promtool_finds_nothing_wrong() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")


@pytest.mark.in_turn
@needs_prometheus
@pytest.mark.slow
def test_each_alert_fires_on_its_trouble_alone_and_ends() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_each_alert_has_such_a_test() -> None:
    """One that expects it with its annotations, and then expects nothing to fire."""
    tested = set()
    for test in TESTS:
        times = [(expected["eval_time"], bool(expected.get("exp_samples"))) for expected in test["promql_expr_test"]]
        for rule_test in test.get("alert_rule_test", ()):
            assert times == [("2m", False), (rule_test["eval_time"], True), (times[-1][0], False)], test["name"]
            assert rule_test["exp_alerts"]
            tested.add(rule_test["alertname"])
    assert tested == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    summary = rule["annotations"]["summary"]
    assert re.fullmatch(r"[A-Z{][^\n]*\w\.", re.sub(r"\{\{[^}]*\}\}", "x", summary).replace("x ", "X ", 1)), summary
    assert rule["annotations"]["runbook_url"] == f"backend/RUNBOOK.md#{rule['alert'].lower()}"
    assert rule.get("for", "0s") in ("0s", "30s", "1m"), "an operator has to know within about a minute"
