"""The likelihoods of no-shows and of demand, for many draws of the parameters at once.

Effects of runs and experiences are integrated out. The behaviours of `stakesim.population.measured_people` are the same
models, forwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from stakesim.population.measured_people import SALE_BEGINS, SALE_ENDS, intercept
from stakesim.units import BPS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]

_MEMORY = 4_000_000
"""Numbers of the largest intermediate array."""


def normal_nodes(step: float) -> tuple[Floats, Floats]:
    """Nodes and log weights of an integral over a standard normal variable: the trapezoidal rule on (-4.2, 4.2).

    It is accurate to exp(-2 (pi w / step)^2), where w is the width of what is integrated.
    """
    import numpy as np

    half = round(4.2 / step)
    nodes: Floats = np.arange(-half, half + 1, dtype=np.float64) * step
    log_weights = -0.5 * nodes**2
    return nodes, log_weights - np.log(np.exp(log_weights).sum())


@dataclass(frozen=True)
class NoShowData:
    """Bookings and no-shows of runs.

    Attributes:
        patterns: Each combination that occurs of bookings, no-shows and number of the stake, shape (patterns, 3).
        stakes: Each stake that occurs, as a share of the ticket.
        counts: How many runs of an experience have a pattern, shape (patterns, experiences).
    """

    patterns: Ints
    stakes: Floats
    counts: Floats

    @classmethod
    def of(cls, frame: pd.DataFrame) -> NoShowData:
        """Counts the bookings of a table from `check_bookings` whose attendance is known."""
        import numpy as np
        import pandas as pd

        known = frame[frame.outcome.isin(("attended", "no_show"))]
        runs = known.groupby("run", sort=False).agg(
            experience=("experience", "first"),
            stake=("stake_bps", "first"),
            bookings=("outcome", "size"),
            no_shows=("outcome", lambda outcomes: int((outcomes == "no_show").sum())),
        )
        stakes, stake_numbers = np.unique(runs.stake.to_numpy(np.int64), return_inverse=True)
        table = np.stack([runs.bookings.to_numpy(np.int64), runs.no_shows.to_numpy(np.int64), stake_numbers], axis=1)
        patterns, which = np.unique(table, axis=0, return_inverse=True)
        experiences = pd.factorize(runs.experience)[0]
        counts = np.zeros((len(patterns), int(experiences.max(initial=0)) + 1))
        np.add.at(counts, (which.ravel(), experiences), 1)
        return cls(patterns, stakes / BPS, counts)

    def log_likelihood(self, rate: Floats, elasticity: Floats, spread: Floats, experience_spread: Floats) -> Floats:
        """Of each draw, arrays of shape (draws,), but for a constant."""
        import numpy as np

        if not len(self.patterns):
            return np.zeros(len(rate))
        bookings = int(self.patterns[:, 0].max())
        run_nodes, run_weights = normal_nodes(min(0.7, 3 / sqrt(bookings)))
        nodes, weights = normal_nodes(_step(self.counts.sum(axis=0).max()))
        centre = intercept(rate, spread**2 + experience_spread**2)
        size = len(run_nodes) * max(len(self.patterns), len(self.stakes))
        by_experience = np.empty((len(nodes), len(rate), self.counts.shape[1]))
        bookings_of, no_shows_of, stake_of = self.patterns.T
        for first in range(0, len(rate), max(_MEMORY // size, 1)):
            part = slice(first, first + max(_MEMORY // size, 1))
            scale = (1 + self.stakes) ** -elasticity[part, None]
            for number, node in enumerate(nodes):  # arrays of shape (nodes of runs, draws, stakes or patterns)
                logit = (centre + experience_spread * node)[part] + spread[part] * run_nodes[:, None]
                q = np.minimum(scale / (1 + np.exp(np.minimum(-logit, 500)))[:, :, None], 1 - 1e-12)
                log_q, log_rest = np.log(np.maximum(q, 1e-300)), np.log1p(-q)
                log_run = no_shows_of * log_q[:, :, stake_of] + (bookings_of - no_shows_of) * log_rest[:, :, stake_of]
                by_experience[number, part] = _log_sum(log_run + run_weights[:, None, None]) @ self.counts
        total: Floats = _log_sum(by_experience + weights[:, None, None]).sum(axis=1)
        return total


@dataclass(frozen=True)
class DemandData:
    """How many people booked each run until its seats ran short, and when.

    Which bookings a run would have had after that is not known, and nothing is assumed of it: the counting process is
    looked at until that moment, whatever the moment depends on (P. Andersen, R. Gill 1982).

    Attributes:
        bookings: Of each run until its seats ran short, shape (runs,).
        until: That moment, as a share of the time from opening to start; 1 if it did not come.
        stake: As a share of the ticket.
        log_price: Log of the price over the reference price.
        experience: Number of the experience.
        when: When each of these bookings came, as a share of that time, shape (bookings,).
        party: How many of these bookings were of 1, 2, 3 ... seats.
    """

    bookings: Ints
    until: Floats
    stake: Floats
    log_price: Floats
    experience: Ints
    when: Floats
    party: Ints

    @classmethod
    def of(cls, frame: pd.DataFrame, price_inr: float) -> DemandData:
        """Counts the bookings of a table from `check_bookings`, of runs that the host did not cancel."""
        import numpy as np
        import pandas as pd

        frame = frame[~frame.run.isin(frame.run[frame.outcome == "run_cancelled"])]
        usual = int(np.quantile(frame.seats[frame.seats > 0], 0.95)) if (frame.seats > 0).any() else 1
        share = _share_of_sale(frame.booked_at, frame.opened_at, frame.starts_at).to_numpy(float)
        rows = []
        when: list[float] = []
        party: list[int] = []
        for _, run in frame.assign(share=share).groupby("run", sort=False):
            first = run.iloc[0]
            until = _runs_short(run, usual)
            before = run[(run.booked_at.notna()) & (run.share <= until)]
            when += before.share.tolist()
            party += before.seats.tolist()
            price = np.log(float(first.price_inr) / price_inr)
            rows.append((len(before), until, first.stake_bps / BPS, price, first.experience))
        bookings, untils, stakes, prices, experiences = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        return cls(
            np.array(bookings, np.int64),
            np.array(untils, float),
            np.array(stakes, float),
            np.array(prices, float),
            pd.factorize(np.array(experiences, object))[0].astype(np.int64),
            np.clip(np.array(when, float), 1e-6, 1 - 1e-6),
            np.bincount(np.array(party, np.int64), minlength=2)[1:],
        )

    def log_likelihood(
        self,
        mean: Floats,
        spread: Floats,
        experience_spread: Floats,
        elasticity: Floats,
        price_elasticity: Floats,
        early: Floats,
        late: Floats,
    ) -> Floats:
        """Of each draw, arrays of shape (draws,), but for a constant."""
        import numpy as np

        if not len(self.bookings):
            return np.zeros(len(mean))
        nodes, weights = normal_nodes(_step(np.bincount(self.experience).max()))
        of_experience = np.zeros((len(self.bookings), int(self.experience.max()) + 1))
        of_experience[np.arange(len(self.bookings)), self.experience] = 1
        size = max(len(nodes) * len(self.bookings), len(self.when), 1)
        total = np.empty(len(mean))
        for first in range(0, len(mean), max(_MEMORY // size, 1)):
            part = slice(first, first + max(_MEMORY // size, 1))
            # exact for odd proposals, too: an error of rounding there would be the highest likelihood
            a, b, shape = early[part, None], late[part, None], 1 / spread[part, None] ** 2
            log_when = np.log(self.when)
            rest = np.log(-np.expm1(a * log_when))  # log of 1 - when ^ a
            curve = np.log(a) + np.log(b) + (a - 1) * log_when + (b - 1) * rest
            with np.errstate(divide="ignore"):  # log 0 where the seats never ran short
                exposure = np.log(-np.expm1(b * np.log(-np.expm1(a * np.log(self.until)))))
            log_mean = np.log(mean[part, None]) - elasticity[part, None] * np.log1p(self.stake)
            log_mean = log_mean - price_elasticity[part, None] * self.log_price
            rising = np.log1p(np.arange(int(self.bookings.max(initial=0))) / shape)
            rising = np.concatenate([np.zeros((len(rising), 1)), np.cumsum(rising, axis=1)], axis=1)
            # a gamma factor with mean 1 integrated out: a negative binomial counting process
            fixed = self.bookings * log_mean + rising[:, self.bookings]
            sigma = experience_spread[part]
            shift = sigma * nodes[:, None] - sigma**2 / 2
            busy = log_mean + exposure - np.log(shape) + shift[:, :, None]  # shape (nodes, draws, runs)
            log_run = self.bookings * shift[:, :, None] - (self.bookings + shape) * np.logaddexp(0, busy)
            by_experience = (log_run + fixed) @ of_experience + weights[:, None, None]
            total[part] = _log_sum(by_experience).sum(axis=1) + curve.sum(axis=1)
        return total


def _runs_short(run: pd.DataFrame, usual: int) -> float:
    """When fewer seats of a run are free than people usually want, as a share of the time to the start; 1 if never."""
    booked = run[run.booked_at.notna()]
    returned = booked[booked.outcome == "cancelled"]
    changes = [
        *zip(booked.booked_at, booked.seats, strict=True),
        *zip(returned.cancelled_at, -returned.seats, strict=True),
    ]
    first = run.iloc[0]
    free = int(first.run_seats)
    usual = min(usual, free)
    for at, seats in sorted(changes):
        free -= seats
        if free < usual:
            return float(run.share[run.booked_at == at].iloc[0])
    return 1.0


def _share_of_sale(at: Any, opened: Any, starts: Any) -> Any:
    """Times as shares of the time on sale; whoever books in the last hour does so at its end."""
    import pandas as pd

    begins, ends = (pd.Timedelta(seconds=seconds) for seconds in (SALE_BEGINS, SALE_ENDS))
    return ((at - opened - begins) / (starts - opened - begins - ends)).clip(0, 1)


def _step(most_runs: float) -> float:
    """Distance of nodes that is fine enough for experiences with so many runs."""
    return max(min(0.4, 1.6 / sqrt(max(most_runs, 1))), 0.05)


def _log_sum(values: Floats) -> Floats:
    """Log of a sum of exponentials over the first axis."""
    import numpy as np

    top = values.max(axis=0)
    sums: Floats = np.log(np.exp(values - top).sum(axis=0)) + top
    return sums
