-- An operation that the service does not carry on any more, as an operator decided: it is not sent, and its fees are not
-- raised, but it is confirmed if it is mined nevertheless.

ALTER TABLE operations ADD COLUMN IF NOT EXISTS abandoned_at timestamptz;

-- What operators did to operations and orphans. The outcome is NULL while the command runs, or if it was killed.
CREATE TABLE IF NOT EXISTS interventions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    operator text NOT NULL,  -- user of the operating system
    command text NOT NULL,
    target text NOT NULL,  -- key of the operation, or hash of the orphan
    outcome text
);

CREATE INDEX IF NOT EXISTS interventions_target ON interventions (target);
