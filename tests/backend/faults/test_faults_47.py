"""Row 47: DATABASE_URL as other tools write it; no part of a password in any output."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from app.bootstrap.checks import read_settings
from app.core.errors import DatabaseUnavailable
from app.core.logs import configure_json_logging
from app.db.database import Database, connect, create_database, drop_database, open_engine
from app.db.embedded import default_data_dir, start_embedded
from app.db.url import parse_database_url
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

REACHED = {"host": "db.example", "dbname": "books", "user": "me", "password": "p@s/s#w?o:r%d"}
ESCAPED = "p%40s%2Fs%23w%3Fo%3Ar%25d"
REFUSING = "postgresql://me:{}@127.0.0.1:1/books"
"""A URL of a port at which nothing listens, for any password."""


def psycopg_arguments(text: str) -> dict[str, Any]:
    """Returns what psycopg is called with for a `DATABASE_URL`."""
    arguments = PGDialect_psycopg().create_connect_args(parse_database_url(text).url)[1]
    return {name: value for name, value in arguments.items() if name != "context"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"postgres://me:{ESCAPED}@db.example/books", {}),
        (f"postgresql://me:{ESCAPED}@db.example:6543/books", {"port": 6543}),
        (f"postgresql+asyncpg://me:{ESCAPED}@db.example/books", {}),
        (f"POSTGRESQL+psycopg2://me:{ESCAPED}@db.example/books", {}),
        (f"  'postgres://me:{ESCAPED}@db.example/books'\n", {}),
        (f'"postgres://me:{ESCAPED}@db.example/books" ', {}),
        (f"jdbc:postgresql://db.example:5/books?user=me&password={ESCAPED}&ssl=true",
         {"port": 5, "sslmode": "require"}),
        (f"postgres://me@db.example/books?password={ESCAPED}", {}),
        (f"postgres:///books?host=db.example&port=7&user=me&password={ESCAPED}", {"port": 7}),
        (f"postgres://me:{ESCAPED}@db.example/books?sslmode=verify-full&application_name=a%20b",
         {"sslmode": "verify-full", "application_name": "a b"}),
        (f"postgres://me:{ESCAPED}@db.example/books?pgbouncer=true&connection_limit=1&pool_timeout=9", {}),
        (f"postgres://me:{ESCAPED}@db.example/books?schema=shop", {"options": "-csearch_path=shop"}),
        (f"postgres://me:{ESCAPED}@db.example/books?options=-cgeqo%3Doff&currentSchema=shop",
         {"options": "-cgeqo=off -csearch_path=shop"}),
        (f"postgres://me:{ESCAPED}@[2001:db8::1]:5433/books", {"host": "2001:db8::1", "port": 5433}),
        (f"postgres://me:{ESCAPED}@[fe80::1%25eth0]/books", {"host": "fe80::1%eth0"}),
        (f"postgres://me:{ESCAPED}@%2Frun%2Fpostgresql/books", {"host": "/run/postgresql"}),
        (f"postgres://me:{ESCAPED}@/books?host=/run/postgresql", {"host": "/run/postgresql"}),
        (f"postgres://me:{ESCAPED}@:99/books?host=/run/postgresql", {"host": "/run/postgresql", "port": 99}),
        (f"postgres://me:{ESCAPED}@one,two:6000/books",
         {"host": "one,two", "port": "5432,6000", "target_session_attrs": "read-write"}),
        (f"postgres://me:{ESCAPED}@/books?host=one&host=two:6000&target_session_attrs=any",
         {"host": "one,two", "port": "5432,6000", "target_session_attrs": "any"}),
    ],
)  # fmt: skip
def test_47_urls_of_other_tools_are_understood(text: str, expected: dict[str, Any]) -> None:
    assert psycopg_arguments(text) == REACHED | expected


@pytest.mark.parametrize("password", ["p@ss", "a:b", "100%", "%zz", "one@two:3@four", "+ +", "“ü”", "a,b[c]d"])
def test_47_unescaped_characters_that_are_unambiguous_are_understood(password: str) -> None:
    assert psycopg_arguments(f"postgres://me:{password}@db.example/books") == REACHED | {"password": password}
    query = f"user=me&password={password.replace('@', '%40')}"
    assert psycopg_arguments(f"postgres://db.example/books?{query}")["password"] == password


@pytest.mark.parametrize(
    ("query", "pooled", "size", "timeout"),
    [
        ("pgbouncer=true", True, None, None),
        ("pgbouncer=false", False, None, None),
        ("statement_cache_size=0", True, None, None),
        ("prepared_statement_cache_size=0&connection_limit=3", True, 3, None),
        ("prepareThreshold=5", False, None, None),
        ("pool_timeout=0&pool_size=20&supa=base-pooler.x", False, 20, 0),
    ],
)
def test_47_parameters_of_poolers_are_understood(
    query: str, pooled: bool, size: int | None, timeout: int | None
) -> None:
    parsed = parse_database_url(f"postgres://me@db.example/books?{query}")
    assert (parsed.is_pooled, parsed.pool_size, parsed.pool_timeout) == (pooled, size, timeout)
    assert not parsed.url.query


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no url at all", "is not a URL"),
        ("host=db.example password=very-secret", "is not a URL"),
        ("psql 'postgres://me:very-secret@db.example/books'", "is not a URL"),
        ("very-secret://db.example/books", "is not a URL"),
        ("mysql://me:very-secret@db.example/books", "is for mysql: only PostgreSQL"),
        ("sqlite:///very-secret.db", "is for sqlite: only PostgreSQL"),
        ("postgres://me:very/secret@db.example/books", "unescaped /, ?, # or @"),
        ("postgres://me:very?secret@db.example/books", "unescaped /, ?, # or @"),
        ("postgres://me:very#secret@db.example/books", "unescaped /, ?, # or @"),
        ("postgres://me:very@sec/ret@db.example/books", "unescaped /, ?, # or @"),
        ("postgres://me@db.example/books?password=very@secret", "unescaped /, ?, # or @"),
        ("postgres://me:very-secret@db.example/books#x", "unescaped /, ?, # or @"),
        ("postgres://me:very-secret/books", "host or port"),
        ("postgres://me:very-secret@db.example:port/books", "host or port"),
        ("postgres://me:very-secret@db.example:99999/books", "port that is not a number from 1 to 65535"),
        ("postgres://me:very-secret@db.example:0/books", "port that is not a number from 1 to 65535"),
        ("postgres://me:very-secret@2001:db8::1/books", "IPv6 address in brackets"),
        ("postgres://me:very-secret@db example/books", "a host that is neither"),
        ("postgres://me:very-secret@db.example/books?host=x&very-secret=1", "parameter, number 2 after the"),
        ("postgres://me@db.example/books?sslpassword=very-secret", "parameter, number 1 after the"),
        ("postgres://me:very-secret@db.example/books?schema=a,b", "a schema that is not the name of one"),
        ("postgres://me:very-secret@db.example/books?schema=-csuper", "a schema that is not the name of one"),
        ("postgres://me:very-secret@db.example/books?connection_limit=many", "connection_limit that is not a number"),
        ("postgres://me:very-secret%00@db.example/books", "bytes that are not text"),
        ("postgres://me:very-secret%ff@db.example/books", "bytes that are not text"),
    ],
)  # fmt: skip
def test_47_other_urls_are_refused_in_one_sentence_that_names_the_part(text: str, says: str) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        connect(text)
    message = caught.value.message
    assert message.startswith(f"DATABASE_URL {'has a ' if says.startswith('port') else ''}")
    assert says in message
    assert message.endswith("give postgresql://user:password@host:5432/database.")
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.fixture(scope="module")
def server() -> Iterator[URL]:
    """A server on which the password of a user is checked, so that a wrong one is refused."""
    url, name = start_embedded(default_data_dir()), f"test_47_{uuid4().hex[:8]}"
    create_database(url, name).dispose()
    yield url.set(database=name)
    drop_database(url, name)


def test_47_a_schema_is_the_search_path_or_is_missed(server: URL) -> None:
    text = server.render_as_string().replace("+psycopg", "")
    with pytest.raises(DatabaseUnavailable, match="does not use the schema of DATABASE_URL: create it"):
        connect(f"{text}&schema=shop")
    engine = connect(text)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
    engine.dispose()
    shop = connect(f"{text}&schema=shop")
    with Database(shop).autocommit() as connection:
        assert connection.exec_driver_sql("SELECT current_schema()").scalar() == "shop"
    shop.dispose()


# ----------------------------------------------------------------------------------------- no password in any output


def everything_said(text: str) -> str:
    """Returns all that a process may show of a `DATABASE_URL`: error, traceback, log, representations."""
    shown = io.StringIO()
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    root.handlers.clear()
    configure_json_logging(shown, logging.DEBUG)
    try:
        with pytest.raises(DatabaseUnavailable) as caught:
            connect(text)
        logging.getLogger("test").error("not started", exc_info=caught.value)
        print(repr(caught.value), repr(caught.value.__cause__), caught.value.reason, file=shown)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return shown.getvalue()


SAFE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
SAID_OF_ANY = {
    "refused": "has an unescaped /, ?, # or @",
    "no text": "has bytes that are not text",
    "unreachable": "The database at 127.0.0.1:1/books is unavailable: it refuses the connection: nothing listens",
}

PASSWORD_OF = {"refused": "/", "no text": "%ff", "unreachable": "x"}
"""A password for each of these sentences."""


def first_sentence(said: str) -> str:
    """Returns the message of the error in the log, which the rest of the output only repeats."""
    line = next(line for line in said.splitlines() if '"not started"' in line)
    return str(json.loads(line)["exc_info"]).splitlines()[-1].partition("DatabaseUnavailable: ")[2]


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(SAFE)
@example("p@ss/w?o#r:d%41")
@example("very secret@127.0.0.1:1/books")
@example("127.0.0.1:1/books")
@example("\ufffd")
def test_47_all_passwords_are_answered_with_the_same_few_sentences(password: str) -> None:
    """What is said does not depend on the password, so it can contain no part of it, however short."""
    message = first_sentence(everything_said(REFUSING.format(password)))
    (kind,) = (kind for kind, said in SAID_OF_ANY.items() if said in message)
    assert message == first_sentence(everything_said(REFUSING.format(PASSWORD_OF[kind])))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(SAFE)
def test_47_a_password_is_understood_if_it_is_escaped(password: str) -> None:
    url = URL.create("postgresql", "me", password, "db.example", None, "books").render_as_string(hide_password=False)
    parsed = parse_database_url(url).url
    assert parsed.password == password
    assert conninfo_to_dict("", **psycopg_arguments(url))["password"] == password
    assert parsed.render_as_string() == "postgresql+psycopg://me:***@db.example/books"


SECRET = "Zq7Wd4Kx9Lm2"
PLACED = (f"me:{SECRET}@", f"password={SECRET}")
"""What makes the secret a password."""
INSERTED = st.tuples(st.integers(0, 70), st.sampled_from([*"@:/?#%&=[],. '\"\n", "%40", "%2F", "//", "://", "%00"]))
TEMPLATES = (
    f"postgresql://me:{SECRET}@127.0.0.1:1/books?sslmode=disable",
    f"postgresql://127.0.0.1:1/books?user=me&password={SECRET}",
    f"jdbc:postgresql://127.0.0.1:1/books?password={SECRET}&user=me",
)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(st.lists(INSERTED, max_size=4), st.sets(st.integers(0, 70), max_size=6), st.sampled_from(TEMPLATES))
@example([], {35}, TEMPLATES[2])  # without its ?
def test_47_no_malformed_url_shows_its_password(inserted: list[Any], deleted: set[int], template: str) -> None:
    """Characters are inserted anywhere, also into the password, and others deleted around it."""
    placed = next(placed for placed in PLACED if placed in template)
    kept = range(template.index(placed), template.index(placed) + len(placed))
    text = "".join(c for index, c in enumerate(template) if index in kept or index not in deleted)
    for index, more in inserted:
        text = text[:index] + more + text[index:]
    said = everything_said(text)
    assert not [SECRET[i : i + 4] for i in range(len(SECRET) - 3) if SECRET[i : i + 4] in said]


def test_47_settings_and_engines_hide_the_password() -> None:
    text = f"postgres://127.0.0.1:1/books?user=me&password={SECRET}"
    shown = read_settings(
        None,
        blockchain_rpc_url="http://node",
        contract_address="0x" + "ab" * 20,
        jwt_secret="k7Pz0vQe9XwLr2TnB5yHc8JdM4sGa6Uf",
        platform_private_key="0x" + "1" * 64,
        database_url=text,
    )
    engine = open_engine(parse_database_url(text).url)
    assert SECRET not in f"{shown!r} {engine!r} {engine.url!r} {engine.url} {parse_database_url(text)!r}"
