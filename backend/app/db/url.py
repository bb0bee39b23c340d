"""Parses `DATABASE_URL` as other tools write it, into a URL that psycopg understands.

An unescaped `/`, `?`, `#` or `@` in a password could make a part of it look like a host or a database name. So a URL
in which an `@` follows the authority is refused, and a refusal quotes nothing but names in `_PARAMETERS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, unquote_plus

from psycopg.pq import Conninfo
from sqlalchemy import URL

from app.core.errors import DatabaseUnavailable

EXAMPLE = "postgresql://user:password@host:5432/database"
DRIVER = "postgresql+psycopg"
_OTHER_DATABASES = ("mysql", "mariadb", "sqlite", "oracle", "mssql", "mongodb", "redis", "cockroachdb", "http", "https")
"""Schemes that a refusal may quote. Any other text in this place may be part of a password."""
_IS_TRUE = ("true", "1", "yes", "on", "require")

_Meaning = Literal[
    "driver",
    "user",
    "password",
    "host",
    "port",
    "database",
    "schema",
    "pooler",
    "cache",
    "size",
    "wait",
    "ssl",
    "ignored",
]
_PARAMETERS: dict[str, _Meaning] = {
    "user": "user",
    "username": "user",
    "password": "password",
    "host": "host",
    "port": "port",
    "dbname": "database",
    "database": "database",
    "schema": "schema",  # Prisma
    "currentSchema": "schema",  # JDBC
    "search_path": "schema",
    "pgbouncer": "pooler",  # Prisma
    "statement_cache_size": "cache",  # asyncpg
    "prepared_statement_cache_size": "cache",  # SQLAlchemy on asyncpg
    "prepareThreshold": "cache",  # JDBC
    "connection_limit": "size",  # Prisma
    "pool_size": "size",
    "pool_timeout": "wait",  # Prisma
    "ssl": "ssl",  # asyncpg, JDBC, node-postgres
    "supa": "ignored",  # Vercel's integration of Supabase
    "workaround": "ignored",
    "uselibpqcompat": "ignored",  # node-postgres
    "sslaccept": "ignored",  # Prisma; sslmode says it here
}
"""Meanings of parameters. Those of libpq that are not here are passed on to it."""
_LIBPQ_PARAMETERS = {option.keyword.decode() for option in Conninfo.get_defaults() if not option.dispchar}
"""The parameters that the installed libpq knows, without those that are secret or for debugging."""


@dataclass(frozen=True)
class DatabaseURL:
    """A parsed `DATABASE_URL`.

    Attributes:
        url: URL with parameters of libpq only.
        schema: Schema that the URL asks for; None to leave the search path to the server.
        is_pooled: Whether the URL says that a pooler is in between.
        pool_size: Maximum number of connections; None if the URL has none.
        pool_timeout: Seconds to wait for a connection of the pool; None if the URL has none.
    """

    url: URL
    schema: str | None = None
    is_pooled: bool = False
    pool_size: int | None = None
    pool_timeout: int | None = None

    @property
    def address(self) -> str:
        """Host and database, for messages. Without a user the port is left out: it may be a password without its @."""
        hosts = self.url.query.get("host") or self.url.host or "the local socket"
        port = f":{self.url.port}" if self.url.port and self.url.username else ""
        return f"{hosts}{port}/{self.url.database or ''}"


@dataclass
class _Parts:
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    hosts: list[tuple[str, str]] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    database: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    schema: str | None = None
    is_pooled: bool = False
    pool_size: int | None = None
    pool_timeout: int | None = None


def parse_database_url(text: str) -> DatabaseURL:
    """Parses the value of `DATABASE_URL`.

    Understands the schemes of SQLAlchemy, Prisma, asyncpg and JDBC, several hosts, IPv6, Unix sockets, and all
    parameters in `_PARAMETERS`; ignores white space and quotes around the value.

    Raises:
        DatabaseUnavailable: It is malformed, or not for PostgreSQL. The message quotes no part of it.
    """
    scheme, separator, rest = _unquoted(text).removeprefix("jdbc:").partition("://")
    if not separator:
        raise _refused("is not a URL")
    base = scheme.lower().partition("+")[0]
    if base not in ("postgres", "postgresql"):
        raise _refused(f"is for {base}: only PostgreSQL is supported" if base in _OTHER_DATABASES else "is not a URL")
    end = re.search("[/?#]", rest)
    authority, remainder = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    if "@" in remainder or "#" in remainder:
        raise _refused("has an unescaped /, ?, # or @: in user, password and parameters write %2F, %3F, %23 and %40")
    path, _, query = remainder.partition("?")
    if "=" in path or "&" in path:  # it may be parameters with a password
        raise _refused("has = or & before the ? of its parameters: in a database's name write %3D and %26")
    parts = _Parts(database=_decoded(path.removeprefix("/")) or None)
    userinfo, has_user, hosts = authority.rpartition("@")
    if has_user:
        user, has_password, password = userinfo.partition(":")
        parts.user = _decoded(user) or None
        parts.password = _decoded(password) if has_password else None
    parts.hosts = [_host_and_port(host) for host in hosts.split(",") if host]
    if len(parts.hosts) == 1 and not parts.hosts[0][0]:  # a port alone, whose host is a parameter
        parts.ports = [parts.hosts.pop()[1]]
    _read_parameters(parts, query)
    return _assembled(parts)


def _refused(reason: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"DATABASE_URL {reason}: give {EXAMPLE}.")


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"`":
        text = text[1:-1].strip()
    return text


def _decoded(text: str) -> str:
    return _without_control_characters(unquote(text))


def _without_control_characters(text: str) -> str:
    if "\0" in text or "\ufffd" in text:
        raise _refused("has bytes that are not text: percent-encode it as UTF-8, without %00")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused("has bytes that are not text: percent-encode it as UTF-8, without %00") from None
    return text


def _host_and_port(text: str) -> tuple[str, str]:
    """Splits `host:port`, `[IPv6]:port`, or a socket's percent-encoded folder."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[^\[\]]*)?)\]|([^:\[\]]*))(?::(\d*))?", text)
    if match is None:
        raise _refused("has a host or port that can't be read (write an IPv6 address in brackets)")
    return _checked_host(_decoded(match[1] or match[2] or "")), _checked_port(match[3] or "")


def _checked_host(host: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%-]*|[/@][^,\s]*", host):
        raise _refused("has a host that is neither a name, an IP address nor a folder of a socket")
    return host


def _checked_port(port: str) -> str:
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise _refused("has a port that is not a number from 1 to 65535")
    return port


def _pairs(query: str) -> Iterator[tuple[int, str, str]]:
    for number, pair in enumerate(filter(None, query.split("&")), 1):
        name, _, value = pair.partition("=")
        # unlike other values, a password may have a + that is meant
        decode = unquote if name == "password" else unquote_plus
        yield number, unquote(name), _without_control_characters(decode(value))


def _read_parameters(parts: _Parts, query: str) -> None:
    for number, name, value in _pairs(query):
        meaning = _PARAMETERS.get(name)
        if meaning is None and name in _LIBPQ_PARAMETERS:
            parts.query[name] = value
        elif meaning is None:
            raise _refused(f"has a parameter, number {number} after the ?, that this service does not know")
        elif meaning in ("user", "password", "database"):
            setattr(parts, meaning, value)
        elif meaning == "host":
            # once for all hosts, or once for each, as `host:port`
            for host in value.split(","):
                parts.hosts.append(_host_and_port(host) if ":" in host else (_checked_host(host), ""))
        elif meaning == "port":
            parts.ports = [_checked_port(port) for port in value.split(",")]
        else:
            _read_own_parameter(parts, name, meaning, value)


def _read_own_parameter(parts: _Parts, name: str, meaning: str, value: str) -> None:
    """Reads a parameter that libpq does not have."""
    if meaning == "schema":
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$-]*", value):
            raise _refused(f"has a {name} that is not the name of one schema")
        parts.schema = value
    elif meaning == "pooler":
        parts.is_pooled = value.lower() in _IS_TRUE
    elif meaning == "cache":
        parts.is_pooled = parts.is_pooled or value == "0"
    elif meaning in ("size", "wait"):
        if not re.fullmatch("[0-9]{1,3}", value) or (meaning == "size" and int(value) == 0):
            raise _refused(f"has a {name} that is not a number below 1000")
        setattr(parts, "pool_size" if meaning == "size" else "pool_timeout", int(value))
    elif meaning == "ssl" and value.lower() in _IS_TRUE:
        parts.query.setdefault("sslmode", "require")


def _assembled(parts: _Parts) -> DatabaseURL:
    query: dict[str, str | tuple[str, ...]] = dict(parts.query)
    if parts.schema:
        options = [parts.query["options"]] if "options" in parts.query else []
        query["options"] = " ".join([*options, f"-csearch_path={parts.schema}"])
    host: str | None = None
    port: int | None = None
    if len(parts.hosts) > 1:
        ports = [
            own or (parts.ports * len(parts.hosts))[index] if parts.ports else own
            for index, (_, own) in enumerate(parts.hosts)
        ]
        query["host"] = ",".join(name for name, _ in parts.hosts)
        query["port"] = ",".join(port or "5432" for port in ports)
        query.setdefault("target_session_attrs", "read-write")  # the primary, whichever of them it is
    else:
        name, own_port = parts.hosts[0] if parts.hosts else ("", "")
        port_text = own_port or (parts.ports[0] if parts.ports else "")
        port = int(port_text) if port_text else None
        if name.startswith(("/", "@")):
            query["host"] = name
        else:
            host = name or None
    url = URL.create(DRIVER, parts.user, parts.password, host, port, parts.database, query)
    return DatabaseURL(url, parts.schema, parts.is_pooled, parts.pool_size, parts.pool_timeout)
