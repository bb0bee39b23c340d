-- Lists in pages: each page is read in order from an index, from the row after which it begins.

CREATE INDEX IF NOT EXISTS event_runs_starts_at ON event_runs (starts_at, id);
CREATE INDEX IF NOT EXISTS event_runs_host_starts_at ON event_runs (host_id, starts_at, id);
CREATE INDEX IF NOT EXISTS event_runs_experience_starts_at ON event_runs (experience_id, starts_at, id);
CREATE INDEX IF NOT EXISTS event_runs_status_starts_at ON event_runs (status, starts_at, id);
DROP INDEX IF EXISTS event_runs_host_id;

CREATE INDEX IF NOT EXISTS event_run_bookings_created_at ON event_run_bookings (created_at, id);
CREATE INDEX IF NOT EXISTS event_run_bookings_user_created_at ON event_run_bookings (user_id, created_at, id);
CREATE INDEX IF NOT EXISTS event_run_bookings_status_created_at ON event_run_bookings (status, created_at, id);
DROP INDEX IF EXISTS event_run_bookings_user_id;

CREATE INDEX IF NOT EXISTS operations_created_at ON operations (created_at, key);
-- Operations that were requested over HTTP: the id of who did is in the key, before the colon.
CREATE INDEX IF NOT EXISTS operations_caller ON operations (split_part(key, ':', 1), created_at, key)
    WHERE strpos(key, ':') > 0;
-- All but the confirmed ones, which are most.
CREATE INDEX IF NOT EXISTS operations_ended_badly ON operations (state, created_at, key)
    WHERE state IN ('failed', 'rejected');
CREATE INDEX IF NOT EXISTS operations_held ON operations (created_at, key) WHERE held IS NOT NULL;
