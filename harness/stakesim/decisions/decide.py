"""The decision: the best policy over the posterior, its regret against the others, and what would change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from stakesim.decisions.emulator import Emulator, fit
from stakesim.decisions.posterior import Posterior
from stakesim.decisions.question import Policy, Question, load_question, posterior_of
from stakesim.decisions.scores import overall_scores, scores_by_draw, season_values
from stakesim.decisions.seasons import Outcomes, simulate_seasons
from stakesim.decisions.unknowns import unknowns

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

SURE = 0.95
"""Posterior probability from which two policies are told apart."""


@dataclass(frozen=True)
class Decision:
    """The answer to a question.

    Attributes:
        question: What was asked.
        posterior: The draws that were simulated.
        table: A row for each policy, the best first; see `decide`.
        scores: The certainty equivalent of each policy if the parameters were those of a draw, in INR a season, in the
            order of `question.policies()`, shape (draws, policies).
        emulator: The same as a function of the parameters.
        unknowns: A row for each parameter, see `stakesim.decisions.unknowns.unknowns`; None if not asked for.
        regret_inr: Expected loss of the best policy against the one that would be best if the parameters were known, in
            INR a season: the value of perfect information.
        spot_checked: Runs of the best policy that were carried out on a chain, with the same payouts to the wei.
    """

    question: Question
    posterior: Posterior
    table: pd.DataFrame
    scores: Floats
    emulator: Emulator
    unknowns: pd.DataFrame | None
    regret_inr: float
    spot_checked: int

    @property
    def best(self) -> Policy:
        """The policy with the highest certainty equivalent."""
        return self.question.policies()[int(self.table.index[0])]

    @property
    def not_told_apart(self) -> tuple[Policy, ...]:
        """Other policies that are better than the best one with a probability of more than 5%, or the same."""
        policies = self.question.policies()
        return tuple(policies[int(number)] for number in self.table.index[1:][~self.table.told_apart[1:]])

    @property
    def runner_up(self) -> Policy | None:
        """The best of the policies that are not the same as the best one to the objective; None if all are."""
        others = self.table.index[1:][~self.table.same[1:]]
        return self.question.policies()[int(others[0])] if len(others) else None

    def answer(self) -> str:
        """The answer in a few sentences."""
        first = self.table.iloc[0]
        lines = [f"Best: {self.best}, worth {first.score:,.0f} INR a season ({first.low:,.0f} to {first.high:,.0f})."]
        same = int(self.table.same.sum())
        if same:
            lines.append(f"Policies that are the same to this objective: {same}.")
        if runner_up := self.runner_up:
            second = self.table.loc[self.question.policies().index(runner_up)]
            lines.append(
                f"The runner-up, {runner_up}, is worth {second.regret:,.0f} INR a season less "
                f"({second.regret_low:,.0f} to {second.regret_high:,.0f}), and is better with a probability of "
                f"{second.better:.0%}."
            )
            others = len(self.table) - 1 - same
            alike = len(self.not_told_apart) - same
            lines.append(
                f"Not told apart from the best: {alike} of {others} other policies."
                if alike
                else "Every other policy is told apart from the best."
            )
            lines.append(f"To know everything would be worth {self.regret_inr:,.0f} INR a season.")
        return " ".join(lines)


def decide(
    question: Question | str | Path,
    posterior: Posterior | None = None,
    *,
    with_unknowns: bool = True,
    engine: str = "py-evm",
    progress: Callable[[int], None] | None = None,
) -> Decision:
    """Chooses the best policy over a posterior.

    Args:
        question: The question, or the path of its file.
        posterior: What is known of the people; None: what the question names.
        with_unknowns: Whether to rank the unknown parameters, which needs SALib.
        engine: EVM engine of the spot check.
        progress: Called with 1 after each draw.

    Returns:
        The decision. Its table has for each policy, by its number in `question.policies()`, the choices; `score`, the
        certainty equivalent of a season in INR, and the central 95% of what it would be if the parameters were known
        (`low`, `high`); `regret`, how much less it is than the best one's, with its central 95%; `better`, the
        probability that it is better than the best one; `same` to the objective; `told_apart`; and the means of a
        season: `host`, `platform` and `attendees` in INR, and
        `empty_share` of the seats.

    Raises:
        InputError: The question or a file that it names is not valid.
        NotInstalled: `with_unknowns`, and SALib is missing.
        MismatchError: The spot check found a difference.
    """
    folder = Path(".")
    if not isinstance(question, Question):
        folder = Path(question).parent
        question = load_question(question)
    known = posterior or posterior_of(question, folder)
    drawn = known.thin(question.draws)
    outcomes = simulate_seasons(question, drawn, progress)
    values = season_values(question, outcomes)
    by_draw = scores_by_draw(values, question.risk)
    table = _table(question, outcomes, overall_scores(values, question.risk), by_draw)
    emulator = fit(drawn.table(), by_draw, int(table.index[0]))
    regret = float((by_draw.max(axis=1) - by_draw[:, int(table.index[0])]).mean())
    ranking = None
    others = table.index[1:][~table.same[1:]]
    if with_unknowns and len(others):
        ranking = unknowns(emulator, known.table(), int(table.index[0]), int(others[0]), question.seed)
        ranking["worth_inr"] = ranking["worth_inr"].clip(upper=regret)  # the fit may promise more than there is
    checked = _spot_check(question, drawn, question.policies()[int(table.index[0])], engine)
    return Decision(question, drawn, table, by_draw, emulator, ranking, regret, checked)


def _table(question: Question, outcomes: Outcomes, overall: Floats, by_draw: Floats) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    best = int(overall.argmax())
    losses = by_draw[:, [best]] - by_draw
    better = (losses < 0).mean(axis=0)
    same = np.abs(losses).max(axis=0) < 1e-6 * max(np.abs(by_draw).max(), 1)
    same[best] = False
    table = pd.DataFrame([policy._asdict() for policy in question.policies()])
    table["score"] = overall
    table["low"], table["high"] = np.quantile(by_draw, (0.025, 0.975), axis=0)
    table["regret"] = overall[best] - overall
    table["regret_low"], table["regret_high"] = np.quantile(losses, (0.025, 0.975), axis=0)
    table["better"] = better
    table["same"] = same
    table["told_apart"] = (better < 1 - SURE) & ~same
    for name in ("host", "platform", "attendees"):
        table[name] = getattr(outcomes, name).mean(axis=(0, 1))
    table["empty_share"] = outcomes.empty.sum(axis=(0, 1)) / outcomes.seats.sum(axis=(0, 1))
    return table.sort_values("score", ascending=False, kind="stable")


def _spot_check(question: Question, posterior: Posterior, policy: Policy, engine: str) -> int:
    """Carries out runs of a policy on a chain, each of another draw, and returns how many."""
    from dataclasses import replace

    from stakesim.population.population import draw

    if not question.spot_check:
        return 0
    from stakesim.economics.spot_check import compare_with_chain  # loads the EVM

    picked = []
    for number in range(question.spot_check):
        population = posterior.population(
            number % len(posterior), price_factor=policy.price_factor, price=question.market
        )
        values = {name: value for name, value in policy._asdict().items() if name != "price_factor"}
        chunk = draw(population, question.seed, 0, population.terms.model_copy(update=values))
        picked.append((replace(chunk, population=f"check{number}"), number))
    return compare_with_chain(picked, engine).runs
