-- Transactions, stored before they are sent. One operation = one idempotency key = one nonce.

DO $$
BEGIN
    CREATE TYPE operation_state AS ENUM
        ('prepared', 'signed', 'submitted', 'mined', 'confirmed', 'failed', 'rejected');
EXCEPTION
    WHEN duplicate_object THEN NULL;
END
$$;

CREATE TABLE IF NOT EXISTS operations (
    key text PRIMARY KEY,
    request text NOT NULL,  -- hash of the request: the same key with another request is an error
    kind text NOT NULL,  -- the contract's function
    subject uuid,  -- id of the row in event_runs or event_run_bookings that it changes
    chain_id bigint NOT NULL,
    sender text NOT NULL,
    to_address text NOT NULL,
    data bytea NOT NULL,
    value_wei numeric(78, 0) NOT NULL,
    state operation_state NOT NULL DEFAULT 'prepared',
    nonce bigint,
    attempts jsonb NOT NULL DEFAULT '[]',  -- every signed transaction, oldest first: hash, raw, nonce, gas, fees
    requeued int NOT NULL DEFAULT 0,  -- how often it got a new nonce, after the old one was used without effect
    reorged boolean NOT NULL DEFAULT false,  -- was mined in a block that was dropped later
    held text,  -- why it can't proceed at present
    tx_hash text,  -- of the attempt that was mined
    block_number bigint,
    block_hash text,
    gas_used bigint,
    gas_price_wei numeric(78, 0),
    error jsonb,  -- why it was rejected or failed
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state IN ('prepared', 'rejected')) = (nonce IS NULL)),
    CHECK ((state IN ('mined', 'confirmed')) <= (tx_hash IS NOT NULL AND block_number IS NOT NULL)),
    UNIQUE (chain_id, sender, nonce)
);

CREATE INDEX IF NOT EXISTS operations_open ON operations (chain_id, sender, nonce)
    WHERE state NOT IN ('confirmed', 'failed', 'rejected');
CREATE INDEX IF NOT EXISTS operations_subject ON operations (subject);

-- The next nonce of each account. Workers lock the row, so that no two of them take the same nonce.
CREATE TABLE IF NOT EXISTS nonces (
    chain_id bigint NOT NULL,
    sender text NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (chain_id, sender)
);

-- The last block whose events the reconciler has compared with the rows.
CREATE TABLE IF NOT EXISTS chain_cursors (
    chain_id bigint NOT NULL,
    contract text NOT NULL,
    block_number bigint NOT NULL,
    PRIMARY KEY (chain_id, contract)
);

-- blockchain_block: the last block whose events are in this row and in its bookings' rows. A view as of an earlier block
--     must not overwrite them.
-- refreshed_block: the block as of which they were last read from the contract's views. Events up to it are included.
-- refresh_due: an event from before refreshed_block was found later, so they must be read again.
ALTER TABLE event_runs
    ADD COLUMN IF NOT EXISTS blockchain_block bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS refreshed_block bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS refresh_due boolean NOT NULL DEFAULT false;
