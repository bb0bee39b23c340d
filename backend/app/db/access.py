"""Who may use the tables: the rights of others, and those of the user as whom the service connects."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Engine

from app.db.tables import metadata

_OPEN_TO = """
    SELECT c.relname, role.rolname FROM pg_class c
    CROSS JOIN (SELECT oid, rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated')) role
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY(%s)
        AND (
            has_table_privilege(role.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
            OR has_any_column_privilege(role.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
        )
    ORDER BY 2, 1
"""
_WITHOUT_ROW_SECURITY = """
    SELECT relname FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relname = ANY(%s) AND NOT relrowsecurity ORDER BY 1
"""
_USER = """
    SELECT rolname, rolsuper, pg_has_role(c.relowner, 'USAGE')
    FROM pg_roles, pg_class c WHERE rolname = current_user AND c.oid = 'operations'::regclass
"""


class TableAccess(NamedTuple):
    """Rights on the backend's tables.

    Attributes:
        user: The user as whom the service connects.
        is_superuser: Whether that user may do anything on the server.
        is_owner: Whether that user may change and drop the tables.
        open_to: Tables with a role of Supabase, `anon` or `authenticated`, that may use them.
        without_row_security: Tables without row level security.
    """

    user: str
    is_superuser: bool
    is_owner: bool
    open_to: list[tuple[str, str]]
    without_row_security: list[str]


def backend_tables() -> list[str]:
    """Returns the names of all tables of the backend."""
    return [*(table.name for table in metadata.sorted_tables), "schema_migrations"]


def read_access(engine: Engine) -> TableAccess:
    """Reads the rights on the tables, once all migrations are applied."""
    names = (backend_tables(),)
    with engine.connect() as connection:
        user, is_superuser, is_owner = connection.exec_driver_sql(_USER).one()
        open_to = [(row.relname, row.rolname) for row in connection.exec_driver_sql(_OPEN_TO, names)]
        without_row_security = list(connection.exec_driver_sql(_WITHOUT_ROW_SECURITY, names).scalars())
    return TableAccess(user, is_superuser, is_owner, open_to, without_row_security)
