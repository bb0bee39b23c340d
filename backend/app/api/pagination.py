"""Lists in pages: the parameters `limit` and `cursor`, and the cursor to the next page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.responses import json_response
from app.core.errors import InvalidCursor
from app.core.security import Caller
from app.services.lists import Page, Position, Slice

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLAIN = re.compile(r"[A-Za-z0-9._~:-]{1,300}")
"""Ids of rows and keys of operations. No other text reaches the database."""


class PageQuery(BaseModel):
    """Parameters of a list. Refuses unknown ones, as a misspelled filter would filter nothing."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum number of items.")
    cursor: str | None = Field(
        None,
        pattern="^[A-Za-z0-9_-]{1,600}$",
        description="`next` of the page before, with the same filters. The first page if left out.",
    )


def respond_with_page(
    query: PageQuery,
    caller: Caller,
    list_name: str,
    read: Callable[[Slice], Page[Any]],
    body: type[BaseModel],
    parse_id: Callable[[str], UUID | str] = UUID,
) -> Response:
    """Responds with the page that the query asks for.

    Args:
        query: The parameters.
        caller: The user who asks.
        list_name: Name of the list. A cursor is good for this list, caller and filters only.
        read: Reads a part of the list.
        body: Body of the response, with `items` and `next`.
        parse_id: Converts the text of a row's id. Raises `ValueError`.

    Raises:
        InvalidCursor: The cursor was not given out for this.
    """
    filters = query.model_dump_json(exclude={"limit", "cursor"})
    of_list = hashlib.sha256(json.dumps([list_name, str(caller.id), caller.role, filters]).encode()).hexdigest()[:16]
    page = read(Slice(query.limit, None if query.cursor is None else _decode(query.cursor, of_list, parse_id)))
    following = None if page.next is None else _encode(page.next, of_list)
    return json_response(200, body.model_validate({"items": page.rows, "next": following}))


def _encode(position: Position, of_list: str) -> str:
    text = json.dumps([of_list, (position.time - _EPOCH) // _MICROSECOND, str(position.id)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, of_list: str, parse_id: Callable[[str], UUID | str]) -> Position:
    with suppress(ValueError, TypeError, OverflowError, RecursionError):
        given_list, microseconds, text = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if given_list == of_list and _PLAIN.fullmatch(text):
            position = Position(_EPOCH + microseconds * _MICROSECOND, parse_id(text))
            if _encode(position, of_list) == cursor:
                return position
    raise InvalidCursor("This cursor is not of this list, with these filters and this token: begin without a cursor.")
