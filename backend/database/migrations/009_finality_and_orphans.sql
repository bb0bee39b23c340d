-- What the reconciler knows of the chain: the hash of the last block that it followed, and the last final block. If the
-- first one changes, a reorganisation went deeper than the confirmations.

ALTER TABLE chain_cursors
    ADD COLUMN IF NOT EXISTS block_hash text,
    ADD COLUMN IF NOT EXISTS finalized_block bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS finalized_hash text;

-- For the operations whose blocks are compared with the chain after such a reorganisation.
CREATE INDEX IF NOT EXISTS operations_closed_block ON operations (chain_id, block_number)
    WHERE state IN ('confirmed', 'failed') AND block_number IS NOT NULL;

-- Transactions from the service's account that are in no row of operations: the database lost its last commits, or
-- somebody else used the key. An order with the same effect is held until it is known whether it is this one.
CREATE TABLE IF NOT EXISTS orphans (
    tx_hash text PRIMARY KEY,
    chain_id bigint NOT NULL,
    sender text NOT NULL,
    nonce bigint NOT NULL,
    block_number bigint NOT NULL,
    to_address text,  -- NULL: it creates a contract
    kind text,  -- the contract's function; NULL: it calls another contract, or no known function
    args jsonb,  -- arguments of the function, by name
    subject text,  -- what the effect is, without amounts: equal for two orders for the same
    data bytea NOT NULL,
    value_wei numeric(78, 0) NOT NULL,
    succeeded boolean NOT NULL,
    operation_key text,  -- the operation whose effect it turned out to be
    dismissed boolean NOT NULL DEFAULT false,  -- a person decided that no order is to have this effect
    found_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX IF NOT EXISTS orphans_open ON orphans (chain_id, sender)
    WHERE operation_key IS NULL AND NOT dismissed AND succeeded AND kind IS NOT NULL;
