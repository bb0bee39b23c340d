"""Decisions with little data: what one's own bookings tell, what an experiment would tell, and what to do.

from stakesim.decisions import Posterior, Question, calibrate, decide, read_bookings
"""

from stakesim.decisions.bookings import read_bookings
from stakesim.decisions.calibrate import calibrate
from stakesim.decisions.decide import Decision, decide
from stakesim.decisions.posterior import Posterior
from stakesim.decisions.question import Question, load_question

__all__ = ["Decision", "Posterior", "Question", "calibrate", "decide", "load_question", "read_bookings"]
