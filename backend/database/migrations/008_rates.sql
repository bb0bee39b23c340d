-- Every accepted rate of ETH. A new rate is compared with the accepted ones, by all processes and across restarts. Rows
-- older than a year may be deleted, except for the newest one.

CREATE TABLE IF NOT EXISTS rates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    inr_per_eth numeric NOT NULL CHECK (inr_per_eth > 0 AND inr_per_eth < 'Infinity'),
    source text NOT NULL,  -- name of the feed, or ETH_PRICE_INR
    as_of timestamptz NOT NULL,  -- when the rate was valid, by its source
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed boolean NOT NULL DEFAULT false  -- by a person: earlier rates do not count any more
);

CREATE INDEX IF NOT EXISTS rates_accepted_at ON rates (accepted_at);
CREATE INDEX IF NOT EXISTS rates_confirmed ON rates (id) WHERE confirmed;
