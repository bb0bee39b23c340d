-- Users, experiences, event runs and bookings. A row exists from the request on, even if its transaction fails.

CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    wallet_address text CHECK (wallet_address ~ '^0x[0-9a-fA-F]{40}$'),  -- NULL: acts under the platform's address
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS experiences (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    host_id uuid NOT NULL REFERENCES users (id),
    title text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS event_runs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    experience_id uuid NOT NULL REFERENCES experiences (id),
    host_id uuid NOT NULL REFERENCES users (id),
    starts_at timestamptz NOT NULL,
    max_seats bigint NOT NULL,
    seats_booked bigint NOT NULL DEFAULT 0,
    price_inr numeric(14, 2) NOT NULL,
    status text NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'full', 'completed', 'cancelled', 'expired')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS event_run_bookings (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_run_id uuid NOT NULL REFERENCES event_runs (id),
    user_id uuid NOT NULL REFERENCES users (id),
    seats bigint NOT NULL,
    total_inr numeric(78, 2) NOT NULL,  -- payment plus stake, at the rate of the quote
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'completed', 'no_show', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX IF NOT EXISTS event_runs_host_id ON event_runs (host_id);
CREATE INDEX IF NOT EXISTS event_run_bookings_event_run_id ON event_run_bookings (event_run_id);
CREATE INDEX IF NOT EXISTS event_run_bookings_user_id ON event_run_bookings (user_id);
