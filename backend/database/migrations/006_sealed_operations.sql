-- seal: proves that a process with the platform's key stored the operation. Other operations are never signed.

ALTER TABLE operations ADD COLUMN IF NOT EXISTS seal text;

-- Operations that left a nonce: some of their attempts have another one than the operation.
CREATE INDEX IF NOT EXISTS operations_left_nonce ON operations (chain_id, sender)
    WHERE attempts <> '[]' AND (attempts -> 0 ->> 'nonce')::bigint IS DISTINCT FROM nonce;
