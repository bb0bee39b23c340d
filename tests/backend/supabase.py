"""Roles and default privileges as a new Supabase project has them, on an embedded server of the tests' own.

Besides, there is the role of the service, and an owner of the tables who is no superuser.

Roles belong to a whole server, so these tests have one that other tests do not use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.db.database import create_database, open_engine
from app.db.embedded import start_embedded, stop_embedded
from sqlalchemy import URL, Engine

OWNER, SERVICE = "migrations_owner", "stakesim_service"
OUTSIDE = ("anon", "authenticated")
"""Roles of requests from browsers."""
_ROLES = f"""
    CREATE ROLE anon NOLOGIN NOINHERIT;
    CREATE ROLE authenticated NOLOGIN NOINHERIT;
    CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
    CREATE ROLE {OWNER} LOGIN;
    CREATE ROLE {SERVICE} LOGIN PASSWORD 'a-long-one';
    GRANT anon, authenticated, service_role TO {OWNER};
"""
_PRIVILEGES = f"""
    GRANT ALL ON SCHEMA public TO {OWNER};
    GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
        GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
        GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
        GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
"""


@contextmanager
def run_supabase(data_dir: Path) -> Iterator[URL]:
    """Runs a server with these roles."""
    server = start_embedded(data_dir)
    engine = open_engine(server)
    with engine.begin() as connection:
        connection.exec_driver_sql(_ROLES)
    engine.dispose()
    try:
        yield server
    finally:
        stop_embedded(data_dir)


def new_project(server: URL, name: str) -> Engine:
    """Returns an engine of the migrations' owner on a new database with Supabase's default privileges."""
    as_superuser = create_database(server, name)
    with as_superuser.begin() as connection:
        connection.exec_driver_sql(_PRIVILEGES)
    as_superuser.dispose()
    return engine_of(server, name, OWNER)


def engine_of(server: URL, name: str, user: str) -> Engine:
    return open_engine(server.set(database=name, username=user))
