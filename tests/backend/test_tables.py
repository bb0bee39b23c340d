"""Nobody but the backend can use its tables, on a database whose roles and default privileges are Supabase's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app.bootstrap.access_checks import check_access
from app.core.config import Settings
from app.db.migrations import migrate
from psycopg import IntegrityError
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from supabase import OUTSIDE, OWNER, engine_of, new_project

pytestmark = pytest.mark.slow

RELATIONS = """
    SELECT relname, relkind, relrowsecurity FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY 1
"""
FUNCTIONS = """
    SELECT oid::regprocedure::text, proconfig, prorettype = 'trigger'::regtype FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace ORDER BY 1
"""


@pytest.fixture
def project(supabase_server: URL, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A project of Supabase's without tables, as the migrations' owner sees it."""
    engine = new_project(supabase_server, request.node.name[:60])
    yield engine
    engine.dispose()


def may(connection: Connection, role: str, statement: str) -> bool:
    """Returns whether a role has the right to a statement, and takes it back. A value that does not fit comes after."""
    with connection.begin_nested() as savepoint:
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as error:
            if not isinstance(error.orig, InsufficientPrivilege | IntegrityError):
                raise
            return not isinstance(error.orig, InsufficientPrivilege)
        finally:
            savepoint.rollback()
    return True


def statements_on(connection: Connection, table: str) -> Iterator[str]:
    columns = connection.exec_driver_sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = '' "
        "AND attidentity = '' AND NOT attisdropped ORDER BY attnum LIMIT 1",
        (table,),
    ).scalar_one()
    yield f"SELECT * FROM {table}"
    yield f"SELECT {columns} FROM {table} LIMIT 1"
    yield f"INSERT INTO {table} DEFAULT VALUES"
    yield f"UPDATE {table} SET {columns} = {columns}"
    yield f"DELETE FROM {table}"
    yield f"TRUNCATE {table} CASCADE"
    yield f"LOCK TABLE {table} IN ACCESS SHARE MODE"


def doors(engine: Engine) -> list[str]:
    """Returns everything that roles of requests from browsers can do in the schema, and what lacks row security."""
    found = []
    with engine.begin() as connection:
        relations = connection.exec_driver_sql(RELATIONS).all()
        functions = connection.exec_driver_sql(FUNCTIONS).all()
        for name, kind, has_row_security in relations:
            if kind != "S" and not has_row_security:
                found.append(f"{name} has no row level security")
            tried = [f"SELECT nextval('{name}')"] if kind == "S" else list(statements_on(connection, name))
            tried = tried[:2] if kind == "v" else tried
            found += [f"{role}: {sql}" for role in OUTSIDE for sql in tried if may(connection, role, sql)]
        for signature, options, _ in functions:
            if not any(option.startswith("search_path=") for option in options or ()):
                found.append(f"{signature} has its caller's search_path")
            call = f"SELECT has_function_privilege('{signature}', 'EXECUTE')"
            for role in OUTSIDE:
                with connection.begin_nested() as savepoint:
                    connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
                    if connection.exec_driver_sql(call).scalar_one():
                        found.append(f"{role}: calls {signature}")
                    savepoint.rollback()
        assert len([kind for _, kind, _ in relations if kind == "r"]) > 12
        assert any(is_trigger for _, _, is_trigger in functions)
    return found


def test_requests_from_browsers_get_nothing(project: Engine) -> None:
    migrate(project)
    assert doors(project) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("ALTER TABLE nonces DISABLE ROW LEVEL SECURITY", ["nonces has no row level security"]),
        ("GRANT SELECT (key) ON operations TO anon", ["anon: SELECT key FROM operations LIMIT 1"]),
        (
            "GRANT TRUNCATE ON answers TO authenticated",
            ["authenticated: TRUNCATE answers CASCADE", "authenticated: LOCK TABLE answers IN ACCESS SHARE MODE"],
        ),
        ("GRANT USAGE ON SEQUENCE rates_id_seq TO anon", ["anon: SELECT nextval('rates_id_seq')"]),
        (
            "GRANT EXECUTE ON FUNCTION count_closed_operation() TO anon",
            ["anon: calls count_closed_operation()"],
        ),
        (
            "ALTER FUNCTION count_closed_operation() RESET search_path",
            ["count_closed_operation() has its caller's search_path"],
        ),
        ("CREATE VIEW leak AS SELECT * FROM users", ["leak has no row level security"]),
    ],
)
def test_each_open_door_is_found(project: Engine, statement: str, found: list[str]) -> None:
    migrate(project)
    with project.begin() as connection:
        connection.exec_driver_sql(statement)
    assert doors(project) == found


def test_a_table_is_open_on_supabase_until_it_is_closed(project: Engine) -> None:
    """Else the other tests would show nothing."""
    with project.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE someones (name text)")
        assert all(may(connection, role, sql) for role in OUTSIDE for sql in statements_on(connection, "someones"))


def test_tables_that_are_created_later_are_closed_too(project: Engine) -> None:
    migrate(project)
    with project.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE later (name text)")
        assert not [sql for role in OUTSIDE for sql in statements_on(connection, "later") if may(connection, role, sql)]


def test_other_tables_of_the_schema_stay_as_they_are(project: Engine) -> None:
    with project.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE profiles (name text)")
    migrate(project)
    with project.begin() as connection:
        assert may(connection, "anon", "SELECT * FROM profiles")


def test_migrate_closes_what_was_opened_again(project: Engine) -> None:
    migrate(project)
    with project.begin() as connection:
        connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated")
        connection.exec_driver_sql("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
    assert len(doors(project)) > 50
    assert migrate(project) == []
    assert doors(project) == []


# ------------------------------------------------------------------------------------------------------ doctor


def access_checks(engine: Engine) -> dict[str, tuple[bool, str]]:
    settings = Settings.model_construct(database_url="postgresql://somewhere/books")
    return {check.name: (check.ok, check.finding) for check in check_access(settings, engine)}


def test_doctor_says_who_may_use_the_tables(project: Engine) -> None:
    migrate(project)
    ok, finding = access_checks(project)["tables"]
    assert (ok, finding) == (True, "They are the backend's alone: neither anon nor authenticated may use them.")
    with project.begin() as connection:
        connection.exec_driver_sql("GRANT SELECT ON users, rates TO anon")
    ok, finding = access_checks(project)["tables"]
    assert (ok, finding) == (False, "Supabase's role anon, whose key every browser has, may use rates, users.")
    with project.begin() as connection:
        connection.exec_driver_sql("REVOKE ALL ON users, rates FROM anon; ALTER TABLE users DISABLE ROW LEVEL SECURITY")
    assert access_checks(project)["tables"] == (False, "Without row level security: users.")


def test_doctor_says_as_whom_the_service_connects(supabase_server: URL, project: Engine) -> None:
    migrate(project)
    ok, finding = access_checks(project)["database user"]
    assert (ok, OWNER in finding, "owns the tables" in finding) == (True, True, True)
    superuser = engine_of(supabase_server, str(project.url.database), "postgres")
    ok, finding = access_checks(superuser)["database user"]
    superuser.dispose()
    assert (ok, finding) == (
        False,
        "The service connects as postgres, a superuser, who may do anything on the server.",
    )
