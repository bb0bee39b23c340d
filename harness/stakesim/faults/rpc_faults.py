"""All faults of networks and nodes for a `FaultyProvider`. Rows are those of `stakesim.faults.catalogue`.

A fault is real where possible: a lost response, for example, belongs to a request that the node executed.
"""

from stakesim.faults.malformed_faults import MALFORMED_FAULTS
from stakesim.faults.reading_faults import READING_FAULTS
from stakesim.faults.sending_faults import SENDING_FAULTS

FAULTS = SENDING_FAULTS + READING_FAULTS + MALFORMED_FAULTS
"""All faults, each with a unique name."""
