-- The first response to each idempotency key, for repetitions of the request. Old rows may be deleted: `operations` still
-- ensures that a repeated request has no second effect.

CREATE TABLE IF NOT EXISTS answers (
    key text PRIMARY KEY,
    request text NOT NULL,  -- hash of the request: the same key with another request is an error
    status int,  -- HTTP status; NULL: not known yet
    body text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
