"""A platform with few seats, so that its runs are simulated in a third of the time."""

from decimal import Decimal

from stakesim.decisions.synthetic import USUAL_POPULATION, synthetic_bookings
from stakesim.population.behaviours import Cancel, HostCancels
from stakesim.population.measured_people import Demand, NoShowByRun

POPULATION = USUAL_POPULATION.model_copy(update={"seats": (6, 10), "attendees": (40, 40)})
PEOPLE = (
    Demand(mean=6.0, price_inr=Decimal(800), party=(0.6, 0.4), runs_each=4),
    NoShowByRun(rate=0.15, elasticity=1.5, runs_each=4),
    Cancel(),
    HostCancels(chance=0.04),
)


def small_bookings(runs, stakes, seed):
    return synthetic_bookings(PEOPLE, runs=runs, stakes=stakes, seed=seed, population=POPULATION)
