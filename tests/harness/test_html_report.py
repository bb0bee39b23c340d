"""Pages for two readers: what is wrong in words, who loses how much, who paid whom; then the technical part."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from payouts import PayoutCampaign
from plainly_patched import plainly_patched
from stakesim.campaign import campaign
from stakesim.campaign.faults_page import fault_page
from stakesim.campaign.html_report import headline, page, scenario_page
from stakesim.campaign.money_flow import money_flow
from stakesim.campaign.result import CampaignResult
from stakesim.campaign.stories import CONTRACT, Story, StoryStep, Transfer, stories, whole_story
from stakesim.evm.compiler import Artifact
from stakesim.faults.campaign import FaultCampaignResult
from stakesim.faults.catalogue import ROWS
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.rpc_faults import FAULTS
from stakesim.paths import shipped
from stakesim.runner.findings import Finding
from stakesim.runner.known_faults import BackendFault, ContractWeakness
from stakesim.scenario.scenario import load
from stakesim.units import format_inr

CROWD = """
name: crowd
story: Thirteen people book, and one comes.
actors: {host: {}, %s}
actions:
- {do: create_run, run: run, by: host, price_inr: '333.33', seats: 13, starts: 1d}
%s
- {at: 1d+1h, do: complete, run: run, by: host, attended: [b0]}
"""
CHROMIUM = shutil.which("chromium")


def played(path: Path, artifact: Artifact | None = None) -> CampaignResult:
    return campaign.run(path, engine="revm", driver="contract", contract=artifact, probing=False)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = ", ".join(f"guest{n}: {{}}" for n in range(13))
    bookings = "\n".join(f"- {{do: book, booking: b{n}, run: run, by: guest{n}, seats: 1}}" for n in range(13))
    scenario = tmp_path_factory.mktemp("crowd") / "crowd.yaml"
    scenario.write_text(CROWD % (people, bookings))
    return scenario


@pytest.fixture(scope="module")
def failed(crowd: Path) -> CampaignResult:
    """A run whose host does not get the stake back, made short."""
    return played(crowd, plainly_patched("_push(run.host, hostPayout + stake);", "_push(run.host, hostPayout);"))


@pytest.mark.slow
def test_a_failure_is_told_in_words_with_who_loses_how_much(failed: CampaignResult) -> None:
    (story,) = stories(failed.findings, failed.rows)
    assert story.title == "A host gets too little, at complete"
    assert story.losses == ["host loses 4,000.00 INR"]
    assert headline([story]) == "A host gets less than the rules say: host loses 4,000.00 INR."
    assert [(transfer.payer, transfer.payee, transfer.told) for _, transfer in story.transfers] == [
        ("host", CONTRACT, "4,000.00 INR")  # and nothing comes back
    ]
    assert [step.fails for step in story.steps] == [False, True]


def test_a_long_story_leaves_out_what_is_alike(crowd: Path) -> None:
    (result,) = played(crowd).results
    story = whole_story(result)
    assert [step.number for step in story.steps] == [1, 2, 0, 14, 15]
    paid = [(transfer.payer, transfer.payee, transfer.told) for _, transfer in story.transfers]
    assert paid[:2] == [("host", CONTRACT, "866.66 INR"), ("guest0", CONTRACT, "400.00 INR")]
    assert {payee for _, payee, _ in paid[-2:]} == {"host", "guest0"}


def test_a_failure_without_a_weakness_says_what_is_wrong_where_it_is_seen() -> None:
    scenario = load(shipped("scenarios") / "no-show.yaml")
    finding = Finding("INV-16", "books agree", "it must fail with TooLate and succeeded", scenario, step=2)
    for rows, outcome in (([], ""), (played(shipped("scenarios") / "no-show.yaml").rows, "ok; ")):
        (story,) = stories([finding], rows)
        assert [step.outcome for step in story.steps if step.fails] == [f"{outcome}{finding.message}"]


@pytest.mark.slow
def test_the_page_tells_it_first_and_folds_the_technical_part(failed: CampaignResult) -> None:
    html = page(failed, "stakesim run crowd")
    told = ("FINDINGS", "A host gets less", "<svg", "<details><summary>Technical", "INV-")
    places = [html.index(text) for text in told]
    assert places == sorted(places)
    assert html.count("A host gets too little, at complete</h3>") == 1
    assert "Traceback" not in html


def test_a_passing_scenario_is_drawn_too() -> None:
    result = played(shipped("scenarios") / "no-show.yaml")
    html = scenario_page(result, "stakesim replay no-show.yaml")
    assert "<strong>PASS</strong>" in html
    assert "What is wrong" not in html
    assert html.count('marker-end="url(#head)"') == sum(bool(row.wei_in or row.wei_out) for row in result.rows)


def test_what_was_not_tried_is_said_beside_the_verdict() -> None:
    result = played(shipped("scenarios") / "no-show.yaml")
    result.reached["not supported: expire"] = 3
    assert "expire (3 times), as contract or backend don&#39;t have it" in page(result, "stakesim run")


def test_a_story_whose_prices_are_in_wei_is_told_in_wei(crowd: Path, tmp_path: Path) -> None:
    """As those of `stakesim fuzz`: 1 INR is 1 wei there."""
    file = tmp_path / "crowd.yaml"
    file.write_text(crowd.read_text() + f"price: {{path: constant, inr_per_eth: '{10**18}'}}\n")
    (result,) = played(file).results
    assert whole_story(result).transfers[0][1].told == "865 wei"


@pytest.mark.parametrize(
    ("findings", "interrupted", "heading"),
    [
        ([], False, "PASS"),
        ([], True, "INTERRUPTED"),
        ([Finding("VACUOUS", "a campaign reaches what it is to test", "no no-show")], False, "VACUOUS"),
        ([Finding("INV-05", "fee", "it is kept")], True, "FINDINGS"),
    ],
)
def test_a_page_has_the_verdict_of_the_terminal(findings: list[Finding], interrupted: bool, heading: str) -> None:
    """Findings may be of no scenario, as those that `stakesim fuzz` can't confirm by one."""
    result = CampaignResult([], findings, interrupted=interrupted)
    assert f"<strong>{heading}</strong>" in page(result, "stakesim run")


def test_names_and_amounts_of_a_drawing_are_escaped_and_many_parties_share_a_column() -> None:
    steps = [StoryStep(n, transfers=[Transfer(f"<b>{n}</b>", CONTRACT, n, "1 & 2 INR")]) for n in range(1, 30)]
    drawing = str(money_flow(Story("title", "", (), (), steps, "")))
    assert "<b>" not in drawing
    assert "1 &amp; 2 INR" in drawing
    assert ">others<" in drawing
    assert len(re.findall('class="party"', drawing)) == 7
    assert money_flow(Story("title", "", (), (), [StoryStep(1)], "")) == ""


@pytest.mark.parametrize("known", [*BackendFault, *ContractWeakness])
def test_each_known_fault_says_what_it_means_for_people(known: BackendFault | ContractWeakness) -> None:
    assert known.meaning[0].isupper()
    assert known.meaning.endswith(".")


@pytest.mark.parametrize(
    ("paise", "told"),
    [
        (0, "0.00 INR"),
        (-5, "-0.05 INR"),
        (99_999, "999.99 INR"),
        (100_000, "1,000.00 INR"),
        (9_999_999, "99,999.99 INR"),
        (12_345_678_901, "12,34,56,789.01 INR"),
        (-100_000_000_00, "-10,00,00,000.00 INR"),
    ],
)
def test_inr_are_grouped_in_lakhs_and_crores(paise: int, told: str) -> None:
    assert format_inr(paise) == told


def chromium(page_url: str) -> subprocess.CompletedProcess[str]:
    """Opens a page without a screen; the output is what its scripts have made of it."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = [str(CHROMIUM), *options, "--virtual-time-budget=3000", page_url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def _chromium_works() -> None:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt install chromium")
    try:
        works = "<body>" in chromium("about:blank").stdout
    except subprocess.TimeoutExpired:
        works = False
    if not works:
        pytest.skip("chromium is installed and does not start on this machine")


@pytest.mark.slow
@pytest.mark.usefixtures("_chromium_works")
@pytest.mark.parametrize("width", [360, 1200])
def test_no_page_is_wider_than_its_screen(failed: CampaignResult, width: int, tmp_path: Path) -> None:
    measure = "<script>parent.document.title = document.documentElement.scrollWidth + '/' + innerWidth</script></body>"
    html = page(failed, "stakesim run " + "x" * 300).replace("</body>", measure)
    (tmp_path / "page.html").write_text(html)
    frame = f"<iframe src='page.html' style='width:{width}px;border:0'></iframe>"
    (tmp_path / "frame.html").write_text(f"<title></title><body>{frame}")
    done = chromium((tmp_path / "frame.html").as_uri())
    found = re.search(r"<title>(\d+)/(\d+)</title>", done.stdout)
    assert found is not None, done.stderr[-500:]
    assert int(found[1]) <= int(found[2]) == width


def test_a_fault_campaign_tells_each_broken_promise_once_by_its_shortest_episode() -> None:
    def episode(number: int, events: int, *violations: str, counts: int = 1) -> EpisodeResult:
        broken = [Violation(invariant, f"invoice {number} <3>") for invariant in violations]
        log = [f"event {event}" for event in range(events)]
        return EpisodeResult(f"payout:{number}", Counter({FAULTS[0].name: counts}), broken, log)

    episodes = [episode(0, 9, "ONCE", "ONCE"), episode(1, 4, "ONCE", "END"), episode(2, 5, counts=3)]
    result = FaultCampaignResult(PayoutCampaign(), 7, episodes, 1.0)
    html = fault_page(result, "stakesim faults --seed 7 --runs 3", "5 faults in 3 episodes")
    assert "FINDINGS" in html
    assert "this does not hold: each invoice is paid once. Nor does 1 more statement." in html
    assert html.count("<h3>each invoice is paid once</h3>") == 1
    assert "invoice 1 &lt;3&gt;" in html, "of the shortest episode"
    assert "1 more episode shows the same" in html
    assert "stakesim faults --seed 7 --only payout:1" in html
    row = ROWS[FAULTS[0].row]
    assert f'<td>{row}</td><td class="number">5</td>\n<td class="number bad">3</td>' in html
    assert "Not tried" in html, "rows of which no fault happened"

    sound = FaultCampaignResult(PayoutCampaign(), 7, [episode(2, 5)], 1.0)
    assert "all that must hold did hold" in (page_of := fault_page(sound, "again", "figures"))
    assert "PASS" in page_of
    assert "INTERRUPTED" in fault_page(replace(sound, interrupted=True), "again", "figures")
