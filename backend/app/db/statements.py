"""Statements of SQLAlchemy that are compiled once, and then run by psycopg without SQLAlchemy's execution layer.

SQLAlchemy writes the SQL and knows the types; the connection comes from its pool. What it does for each execution takes
longer than psycopg, so the statements of the hot path are compiled: `connection.execute` takes them like any other.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from sqlalchemy import CompoundSelect, Connection, Delete, Dialect, Float, Insert, Select, Update
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from app.db.connections import drop
from app.db.unavailability import meaning_of

_NUMERIC_OID, _FLOAT_OID = 1700, 701
"""Types of PostgreSQL in which psycopg returns NUMERIC and DOUBLE PRECISION."""

_CURSORS = "cursors"
"""Key of a connection's cursors in its `info`."""

_Converter = Callable[[Any], Any]


class Rows:
    """All rows of a result, with those methods of `sqlalchemy.CursorResult` that the services use.

    Attributes:
        rowcount: Number of rows that the statement returned or changed.
    """

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self._rows, self.rowcount = rows, rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> Sequence[Any]:
        """Returns all rows."""
        return self._rows

    def one_or_none(self) -> Any:
        """Returns the only row; None if there is none. Raises `MultipleResultsFound`."""
        if len(self._rows) > 1:
            raise MultipleResultsFound("a statement that returns one row at most returned more")
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """Returns the only row. Raises `NoResultFound` and `MultipleResultsFound`."""
        row = self.one_or_none()
        if row is None:
            raise NoResultFound("a statement that returns one row returned none")
        return row

    def scalars(self) -> Iterator[Any]:
        """Returns the first column of all rows."""
        return (row[0] for row in self._rows)

    def scalar_one(self) -> Any:
        """Returns the first column of the only row. Raises `NoResultFound` and `MultipleResultsFound`."""
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        """Returns the first column of the only row; None if there is none. Raises `MultipleResultsFound`."""
        row = self.one_or_none()
        return None if row is None else row[0]


class Compiled(Executable):
    """A statement, compiled when it is executed first. Rows are named tuples.

    The number of its parameters is fixed, so nothing is compared by `in_` with a list: take `any` of an array.

    Args:
        statement: The statement.
    """

    def __init__(self, statement: Select[Any] | CompoundSelect[Any] | Insert | Update | Delete) -> None:
        self.statement = statement
        self._sql = ""

    def _execute_on_connection(self, connection: Connection, parameters: Any, options: Any) -> Any:
        """Runs the statement, and returns `Rows`. `Connection.execute` calls this method of whatever it is given.

        Raises:
            DatabaseUnavailable: As `meaning_of` says.
            psycopg.Error: Any other error: a constraint, or a mistake of this service.
        """
        assert len(parameters) <= 1, "it takes one set of parameters"
        if not self._sql:
            self._compile(connection.dialect)
        values = {**self._literals, **parameters[0]} if parameters else dict(self._literals)
        for name, convert in self._binds:
            values[name] = convert(values[name])
        cursor = self._cursor(connection)
        try:
            cursor.execute(self._sql, values)
            rows = map(self._row, cursor.fetchall()) if self._row else ()
        except psycopg.Error as error:
            meaning = meaning_of(error)
            if meaning is None:
                raise
            if meaning.drops:
                drop(connection, error)
            raise meaning.as_error() from error
        return Rows([*rows], cursor.rowcount)

    def _execute_on_scalar(self, connection: Connection, parameters: Any, options: Any) -> Any:
        """Does the same for `Connection.scalar`, and returns the first column of the first row; None without rows."""
        rows = self._execute_on_connection(connection, parameters, options).all()
        return rows[0][0] if rows else None

    def _cursor(self, connection: Connection) -> psycopg.Cursor[Any]:
        """Returns the cursor that a connection keeps for the statement: it knows how to convert values and rows."""
        lent = connection.connection
        driver_connection, cursors = lent.driver_connection, lent.info.setdefault(_CURSORS, {})
        assert isinstance(driver_connection, psycopg.Connection)
        cursor: psycopg.Cursor[Any] | None = cursors.get(self)
        if cursor is None or type(cursor) is not driver_connection.cursor_factory:
            cursor = cursors[self] = driver_connection.cursor()
        return cursor

    def _compile(self, dialect: Dialect) -> None:
        """Sets the SQL, the values that are part of the statement, and how values and rows are converted."""
        compiled = self.statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        assert "POSTCOMPILE" not in compiled.string, "`in_` takes no parameter"
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        converters = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in binds.items()}
        self._binds = [(name, convert) for name, convert in converters.items() if convert is not None]
        self._literals = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._row = _row_maker(self.statement, dialect)
        self._sql = compiled.string


def _row_maker(statement: Any, dialect: Dialect) -> Callable[[Sequence[Any]], Any] | None:
    """Returns a function that makes a row of what psycopg returns; None if the statement returns no rows."""
    columns = [*statement.exported_columns]
    if not columns:
        return None
    row: Any = namedtuple("row", [column.key for column in columns], rename=True)  # type: ignore[misc]
    converters = [(index, _result_converter(column.type, dialect)) for index, column in enumerate(columns)]
    needed = [(index, convert) for index, convert in converters if convert is not None]
    if not needed:
        return row._make

    def make(values: Sequence[Any]) -> Any:
        converted = [*values]
        for index, convert in needed:
            converted[index] = convert(converted[index])
        return row._make(converted)

    return make


def _result_converter(type_: TypeEngine[Any], dialect: Dialect) -> _Converter | None:
    oid = _FLOAT_OID if isinstance(type_, Float) else _NUMERIC_OID
    return type_.dialect_impl(dialect).result_processor(dialect, oid)
