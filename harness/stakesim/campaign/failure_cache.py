"""The failures that a user's runs have found: kept outside the project, and replayed first in the next run.

They are no tests of the project. `--keep` makes regressions of them, which are committed. What a scenario file itself
expects wrongly is neither: it is mended in that file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from stakesim.campaign.report import save_failures
from stakesim.campaign.result import CampaignResult
from stakesim.paths import state_dir
from stakesim.project import current_project
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.scenario import Scenario, load
from stakesim.schema.errors import InputError

MAX_REPLAYED = 50
"""Failures that a run replays at most: the latest ones."""
_OF_THE_SCENARIO = ("EXPECTATION", "VACUOUS")
"""Ids of findings that are about the scenario or the campaign, and not about what is tested."""


class FailureCache:
    """The kept failures of one project, one contract and one driver.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, contract: str | None, driver: str | None) -> None:
        """Opens the cache; nothing is written yet.

        Args:
            contract: As `--contract`; None for the project's own contract.
            driver: As `--driver`; None for the default one.
        """
        root = current_project().root
        parts = [f"{root.name}-{_digest(str(root))}", driver or "default-driver"]
        if contract:
            file, colon, name = contract.partition(":")
            parts.append(f"{Path(file).stem}-{_digest(f'{Path(file).resolve()}{colon}{name}')}")
        self.folder = state_dir().joinpath("failures", *parts)
        self._contract = contract

    def scenarios(self) -> list[Scenario]:
        """The failures to replay, the latest first: those that no scenario file gives again."""
        by_age = sorted(self._entries(), key=lambda entry: entry[0].stat().st_mtime_ns, reverse=True)
        return [scenario for _, scenario in by_age if not _is_of_a_file(scenario)][:MAX_REPLAYED]

    def update(self, result: CampaignResult) -> list[str]:
        """Adds the failures of a campaign, and drops those that it has shown to be mended.

        Args:
            result: Its findings are replaced by those with the file.

        Returns:
            Names of the dropped failures.

        Raises:
            OSError: A file can't be written.
        """
        passed = {each.scenario.name: each.ok for each in result.results}
        mended = []
        for file, scenario in self._entries():
            source = (scenario.origin or {}).get("scenario", "")
            if passed.get(scenario.name, passed.get(source, False)):
                file.unlink(missing_ok=True)
                mended.append(scenario.name)
        save_failures(result, self.folder, self._contract, only=is_failure_of_the_system)
        return mended

    def _entries(self) -> Iterator[tuple[Path, Scenario]]:
        for file in sorted(self.folder.glob("*.yaml")):
            try:
                yield file, load(file)
            except InputError:  # written by another version, with another format
                file.unlink(missing_ok=True)


def is_failure_of_the_system(failure: ScenarioResult) -> bool:
    """Whether more is wrong than what a scenario expects of itself, so that the failure is worth keeping."""
    return any(finding.step and finding.id not in _OF_THE_SCENARIO for finding in failure.findings)


def keep(result: CampaignResult, folder: Path) -> None:
    """Saves the failures as regressions. The model alone judges them: they expect nothing of their own.

    Args:
        result: Its findings are replaced by those with the file.
        folder: The project's regressions.

    Raises:
        OSError: A file can't be written.
    """
    save_failures(result, folder, only=is_failure_of_the_system, change=_without_expectations)


def _without_expectations(scenario: Scenario) -> Scenario:
    actions = tuple(action.model_copy(update={"fails": None}) for action in scenario.actions)
    return scenario.model_copy(update={"strict": False, "received": {}, "actions": actions})


def _is_of_a_file(scenario: Scenario) -> bool:
    """Whether the scenario is the beginning of a scenario file, neither drawn nor shrunk."""
    return not {"index", "shrunk_from"} & (scenario.origin or {}).keys()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
