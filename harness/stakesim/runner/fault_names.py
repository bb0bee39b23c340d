"""Names of the faults that backends are known to have, as `stakesim run` tells them."""

INEXACT_WEI = "INR are turned into wei inexactly"
DONE_TWICE = "a client's retry is done twice"
FALSE_FAILURE = "a time-out is taken for a failure"
GUESSED_ID = "an id on chain is guessed"
NONCE_TWICE = "a nonce is used twice"
TOO_SOON = "a status is written before the receipt"
BACKEND_FAULTS = (INEXACT_WEI, DONE_TWICE, FALSE_FAILURE, GUESSED_ID, NONCE_TWICE, TOO_SOON)
