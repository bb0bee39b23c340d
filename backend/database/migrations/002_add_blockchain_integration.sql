-- On-chain ids, amounts and status of event runs and bookings. Wei are numeric(78, 0), which holds a uint256; a 64-bit
-- integer overflows at 9.22 ETH. Use one database for one contract, as on-chain ids are unique.

DO $$
BEGIN
    CREATE TYPE blockchain_status AS ENUM ('pending', 'confirmed', 'failed');
EXCEPTION
    WHEN duplicate_object THEN NULL;
END
$$;

ALTER TABLE event_runs
    ADD COLUMN IF NOT EXISTS blockchain_event_run_id numeric(78, 0) UNIQUE,
    ADD COLUMN IF NOT EXISTS blockchain_tx_hash text,
    ADD COLUMN IF NOT EXISTS blockchain_status blockchain_status NOT NULL DEFAULT 'pending',
    ADD COLUMN IF NOT EXISTS blockchain_error text,  -- why the transaction failed
    ADD COLUMN IF NOT EXISTS blockchain_price_per_seat_wei numeric(78, 0),
    ADD COLUMN IF NOT EXISTS blockchain_stake_amount_wei numeric(78, 0),
    ADD COLUMN IF NOT EXISTS inr_per_eth numeric;  -- rate at which the price was converted to wei

ALTER TABLE event_run_bookings
    ADD COLUMN IF NOT EXISTS blockchain_booking_id numeric(78, 0) UNIQUE,
    ADD COLUMN IF NOT EXISTS blockchain_tx_hash text,
    ADD COLUMN IF NOT EXISTS blockchain_status blockchain_status NOT NULL DEFAULT 'pending',
    ADD COLUMN IF NOT EXISTS blockchain_error text,
    ADD COLUMN IF NOT EXISTS blockchain_payment_wei numeric(78, 0),
    ADD COLUMN IF NOT EXISTS blockchain_stake_amount_wei numeric(78, 0),
    ADD COLUMN IF NOT EXISTS inr_per_eth numeric;  -- rate of the quote
