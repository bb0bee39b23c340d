-- The tables are the backend's alone. Supabase's roles anon and authenticated, whose key every browser has, may do nothing
-- with them, and nothing with tables that are created later.

-- Closes tables to everybody but their owner and the role stakesim_service, as which a service without DDL connects. Says
-- nothing about roles that do not exist. May be repeated, as after the creation of a role; `stakesim migrate` does so for
-- all tables of the backend.
CREATE OR REPLACE FUNCTION protect_tables(VARIADIC tables regclass[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    protected regclass;
    related regclass;
    refused text;
    schema text;
    service CONSTANT text := 'stakesim_service';
    has_service CONSTANT boolean := EXISTS (SELECT FROM pg_roles WHERE rolname = service);
BEGIN
    FOREACH protected IN ARRAY tables LOOP
        schema := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = protected);
        IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = protected) THEN
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', protected);
        END IF;
        -- the table, and the sequences of its columns
        FOR related IN
            SELECT protected UNION ALL SELECT d.objid FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
            WHERE d.classid = 'pg_class'::regclass AND d.refobjid = protected AND s.relkind = 'S'
        LOOP
            FOR refused IN
                SELECT 'PUBLIC' UNION ALL
                SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
            LOOP
                EXECUTE format('REVOKE ALL ON %s FROM %s', related, refused);
            END LOOP;
        END LOOP;
        IF has_service THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', schema, service);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', protected, service);
            IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = protected AND polname = service) THEN
                EXECUTE format('CREATE POLICY %I ON %s TO %I USING (true) WITH CHECK (true)', service, protected, service);
            END IF;
        END IF;
    END LOOP;
    FOR refused IN SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %s REVOKE ALL ON TABLES FROM %s', schema, refused);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %s REVOKE ALL ON SEQUENCES FROM %s', schema, refused);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %s REVOKE ALL ON FUNCTIONS FROM %s', schema, refused);
    END LOOP;
END
$$;

-- A function's search_path would be its caller's, who may put a table of the same name first. A trigger needs nobody's
-- right to call its function.
DO $$
DECLARE
    refused text;
BEGIN
    EXECUTE 'ALTER FUNCTION protect_tables(regclass[]) SET search_path = pg_catalog, pg_temp';
    EXECUTE format('ALTER FUNCTION count_closed_operation() SET search_path = %I, pg_temp', current_schema());
    FOR refused IN
        SELECT 'PUBLIC' UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION protect_tables(regclass[]), count_closed_operation() FROM %s', refused);
    END LOOP;
END
$$;

SELECT protect_tables(VARIADIC array_agg(oid::regclass)) FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relname IN (
        'users', 'experiences', 'event_runs', 'event_run_bookings', 'operations', 'nonces', 'chain_cursors', 'answers',
        'operation_totals', 'rates', 'orphans', 'interventions', 'approvals', 'pauses', 'schema_migrations'
    );
