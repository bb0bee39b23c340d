-- Quotes that are paid in INR, and what goes back. A row of `payments` is a quote, its payment, and what became of both.

DO $$
BEGIN
    CREATE TYPE payment_state AS ENUM
        ('created', 'captured', 'used', 'refunding', 'refunded', 'failed', 'expired');
EXCEPTION
    WHEN duplicate_object THEN NULL;
END
$$;

DO $$
BEGIN
    CREATE TYPE refund_state AS ENUM ('due', 'requested', 'done');
EXCEPTION
    WHEN duplicate_object THEN NULL;
END
$$;

CREATE TABLE IF NOT EXISTS payments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),  -- the quote's id
    user_id uuid NOT NULL REFERENCES users (id),  -- who pays, and for whom the operation is
    purpose text NOT NULL CHECK (purpose IN ('booking', 'event_run', 'unexpected')),  -- unexpected: nobody asked for it
    quoted jsonb NOT NULL DEFAULT '{}',  -- the arguments of the request that was quoted
    inr_per_eth numeric,  -- rate of the quote
    price_wei numeric(78, 0),  -- of a booking: of all its seats; of a run: of one seat
    stake_wei numeric(78, 0),
    stake_inr numeric(20, 2),
    amount_inr numeric(20, 2) NOT NULL CHECK (amount_inr > 0),
    state payment_state NOT NULL DEFAULT 'created',
    gateway text NOT NULL,
    gateway_order_id text,
    gateway_payment_id text,
    paid_at timestamptz,  -- when it was paid, by the gateway's clock
    expires_at timestamptz NOT NULL,  -- it must be paid until then
    usable_until timestamptz NOT NULL,  -- a captured payment that is not used until then goes back
    operation_key text UNIQUE,  -- the operation that it pays for
    to_custody boolean,  -- the contract returns what it owes to the custody address, so INR are owed
    look_at timestamptz,  -- when to find out whether something is owed for a used payment; NULL: nothing ever will be
    dispute text CHECK (dispute IN ('open', 'won', 'lost')),  -- won and lost as the platform sees it
    dispute_id text,
    seal text,  -- proves that the service stored the quote, and recorded its capture
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (gateway, gateway_order_id),
    UNIQUE (gateway, gateway_payment_id),
    CHECK ((state IN ('captured', 'used', 'refunding', 'refunded')) = (gateway_payment_id IS NOT NULL)),
    CHECK ((state = 'used') <= (operation_key IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS payments_user_created_at ON payments (user_id, created_at, id);
CREATE INDEX IF NOT EXISTS payments_unpaid ON payments (expires_at) WHERE state IN ('created', 'failed');
CREATE INDEX IF NOT EXISTS payments_captured ON payments (usable_until) WHERE state = 'captured';
CREATE INDEX IF NOT EXISTS payments_dispute ON payments (dispute) WHERE dispute IS NOT NULL;
CREATE INDEX IF NOT EXISTS payments_look_at ON payments (look_at) WHERE look_at IS NOT NULL;

-- What is owed of a payment. One payment is refunded once, whole or in part.
CREATE TABLE IF NOT EXISTS refunds (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    payment_id uuid NOT NULL UNIQUE REFERENCES payments (id),
    amount_inr numeric(20, 2) NOT NULL CHECK (amount_inr > 0),
    cause text NOT NULL CHECK
        (cause IN ('unexpected', 'late', 'unused', 'no_effect', 'cancelled', 'stake_returned')),
    state refund_state NOT NULL DEFAULT 'due',
    tries int NOT NULL DEFAULT 0,  -- how often the gateway was asked; each is claimed before
    failed int NOT NULL DEFAULT 0,  -- how many refunds the gateway took and could not carry out
    next_at timestamptz DEFAULT clock_timestamp(),  -- when to ask the gateway next; NULL: never
    gateway_refund_id text UNIQUE,
    problem text,  -- why the last try did not succeed
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'due') <= (gateway_refund_id IS NULL)),
    CHECK ((state = 'due') OR (gateway_refund_id IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS refunds_next_at ON refunds (next_at) WHERE next_at IS NOT NULL;

SELECT protect_tables('payments'::regclass, 'refunds'::regclass);
