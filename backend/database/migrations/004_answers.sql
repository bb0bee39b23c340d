-- What was answered to whom under an idempotency key, so that the same request gets the first answer again. Rows may be
-- deleted once nobody repeats so old a request: what was done on chain is kept in `operations`.

CREATE TABLE IF NOT EXISTS answers (
    key text PRIMARY KEY,
    request text NOT NULL,  -- hash of what was asked: the same key with another request is an error
    status int,  -- of HTTP; NULL: not decided yet
    body text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
