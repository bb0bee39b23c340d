"""The runbook's page has a section for each alert, and each section an alert and a walk."""

from __future__ import annotations

import re

import pytest
import runbook
import test_walks
from prometheus import rules
from walks import WALKS

SECTIONS = runbook.sections()


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert sorted(runbook.alerts()) == sorted(rules())


def test_each_alert_has_a_walk() -> None:
    assert {walk.alert for walk in WALKS} == set(rules())
    assert test_walks.MODULES


@pytest.mark.parametrize("name", runbook.alerts())
def test_a_section_has_all_parts_in_order(name: str) -> None:
    section = SECTIONS[name]
    assert tuple(part for part in section.parts if part) == runbook.PARTS
    assert section.check
    assert section.steps


@pytest.mark.parametrize("name", sorted(rules()))
def test_an_alert_leads_to_its_section(name: str) -> None:
    assert rules()[name]["annotations"]["runbook_url"] == f"backend/RUNBOOK.md#{slug(name)}"


def test_all_links_within_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(#([^)]+)\)", runbook.PAGE.read_text())
    assert set(links) <= {slug(heading) for heading in SECTIONS}


def test_no_step_is_without_a_section() -> None:
    for section in SECTIONS.values():
        for step in section.steps:
            assert step.follows is None or step.follows in SECTIONS
