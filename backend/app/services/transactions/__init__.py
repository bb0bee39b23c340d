"""Sends operations as transactions.

To read in this order: `policy` (limits and waiting times), `lanes` (which account sends), `fees`, `signing`, `nonces`,
`unknown` (transactions in no row), `mempool` (sends attempts), `states` (changes of state in the database), `receipts`,
and `sender`, which carries an operation through its states.
"""
