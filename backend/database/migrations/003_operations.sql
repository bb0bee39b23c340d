-- What was asked of the chain, written down before it is sent. One operation = one idempotency key = one nonce.

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
    request text NOT NULL,  -- hash of what was asked: the same key with another request is an error
    kind text NOT NULL,  -- the contract's function
    subject uuid,  -- the row of event_runs or event_run_bookings that it is about
    chain_id bigint NOT NULL,
    sender text NOT NULL,
    to_address text NOT NULL,
    data bytea NOT NULL,
    value_wei numeric(78, 0) NOT NULL,
    state operation_state NOT NULL DEFAULT 'prepared',
    nonce bigint,
    attempts jsonb NOT NULL DEFAULT '[]',  -- every signed transaction, oldest first: hash, raw, nonce, gas, fees
    requeued int NOT NULL DEFAULT 0,  -- how often it was given a new nonce, after the old one was used up without effect
    reorged boolean NOT NULL DEFAULT false,  -- was mined once, and is no longer
    held text,  -- why it can't go on at present
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

-- The next nonce of each account: its row is the lock by which two workers can't take the same one.
CREATE TABLE IF NOT EXISTS nonces (
    chain_id bigint NOT NULL,
    sender text NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (chain_id, sender)
);

-- Up to which block the contract's events have been compared with the rows.
CREATE TABLE IF NOT EXISTS chain_cursors (
    chain_id bigint NOT NULL,
    contract text NOT NULL,
    block_number bigint NOT NULL,
    PRIMARY KEY (chain_id, contract)
);

-- blockchain_block: the latest block whose events this row and its bookings' rows hold; an older view may not overwrite
-- them. refreshed_block: the block as of which they were last taken over from the contract's views: what happened up to it
-- is counted. refresh_due: something turned up that happened before it, so it has to be done again.
ALTER TABLE event_runs
    ADD COLUMN IF NOT EXISTS blockchain_block bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS refreshed_block bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS refresh_due boolean NOT NULL DEFAULT false;
