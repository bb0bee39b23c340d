-- Each statement of a running service finds its rows by an index, and counts of closed operations are kept, so that a
-- million operations cost no more than a thousand.

CREATE INDEX IF NOT EXISTS operations_tx_hash ON operations (tx_hash) WHERE tx_hash IS NOT NULL;
CREATE INDEX IF NOT EXISTS operations_contract ON operations (chain_id, to_address);
CREATE INDEX IF NOT EXISTS event_runs_created_at ON event_runs (created_at, id);
CREATE INDEX IF NOT EXISTS event_runs_refresh_due ON event_runs (id) WHERE refresh_due;
CREATE INDEX IF NOT EXISTS answers_created_at ON answers (created_at);

-- Numbers of closed operations and the gas that they paid for, as rows that are added up. A trigger inserts one row for
-- each operation that is closed, and one with the opposite sign if it is opened again; the reconciler adds rows up to
-- one for each state. Inserting takes no lock that another operation waits for. Rows of operations are never deleted.
CREATE TABLE IF NOT EXISTS operation_totals (
    state operation_state NOT NULL,
    operations bigint NOT NULL,
    gas_wei numeric(78, 0) NOT NULL
);

CREATE OR REPLACE FUNCTION count_closed_operation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.state IN ('confirmed', 'failed', 'rejected') THEN
        INSERT INTO operation_totals VALUES (OLD.state, -1, -coalesce(OLD.gas_used * OLD.gas_price_wei, 0));
    END IF;
    IF NEW.state IN ('confirmed', 'failed', 'rejected') THEN
        INSERT INTO operation_totals VALUES (NEW.state, 1, coalesce(NEW.gas_used * NEW.gas_price_wei, 0));
    END IF;
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'operations_closed' AND tgrelid = 'operations'::regclass) THEN
        -- the lock of the trigger's creation keeps others from closing operations until those of before are counted
        CREATE TRIGGER operations_closed AFTER UPDATE OF state, gas_used, gas_price_wei ON operations
            FOR EACH ROW WHEN (
                OLD.state IN ('confirmed', 'failed', 'rejected') OR NEW.state IN ('confirmed', 'failed', 'rejected')
            ) EXECUTE FUNCTION count_closed_operation();
        CREATE TRIGGER operations_stored_closed AFTER INSERT ON operations
            FOR EACH ROW WHEN (NEW.state IN ('confirmed', 'failed', 'rejected'))
            EXECUTE FUNCTION count_closed_operation();
        INSERT INTO operation_totals
            SELECT state, count(*), coalesce(sum(gas_used * gas_price_wei), 0) FROM operations
            WHERE state IN ('confirmed', 'failed', 'rejected') GROUP BY state;
    END IF;
END
$$;
