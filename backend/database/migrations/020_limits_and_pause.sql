-- Limits of spending, approvals, and the pause.

-- person: the user for whom the operation sends wei; the seal covers it.
-- spending: what was counted against the limits when it was signed with its present nonce: `at` (microseconds since 1970),
--     `wei`, `for` (the person), `since` (the nonce from which on every operation of the account is counted), and a seal.
ALTER TABLE operations
    ADD COLUMN IF NOT EXISTS person text,
    ADD COLUMN IF NOT EXISTS spending jsonb;

-- Operations that a person lets go on though they are above a limit. The seal makes it an approval.
CREATE TABLE IF NOT EXISTS approvals (
    operation_key text PRIMARY KEY,
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL,
    seal text NOT NULL
);

-- While one is open, only exits are signed. Opening one locks the table `nonces`, so that no statement that signs overtakes it.
CREATE TABLE IF NOT EXISTS pauses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by text NOT NULL,
    reason text,
    ended_at timestamptz,
    ended_by text
);

CREATE UNIQUE INDEX IF NOT EXISTS pauses_open ON pauses ((true)) WHERE ended_at IS NULL;
