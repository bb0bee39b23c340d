"""The catalogue of problem types: every `code` with which the API refuses a request, as data.

The responses in the OpenAPI document and the HTTP status of each error come from here. A code never changes its
meaning; new ones may be added.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal, NamedTuple

TYPE_PREFIX = "urn:stakesim:problem:"
"""Start of every `type`; the code follows."""

ClientAction = Literal["repeat", "wait", "change", "new_key", "ask"]

CLIENT_ACTIONS: dict[ClientAction, str] = {
    "repeat": "Repeat the same request with the same Idempotency-Key, after the seconds of `Retry-After`, if any.",
    "wait": "Something has to happen first. Repeat the same request with the same Idempotency-Key later.",
    "change": "Correct the request. Its Idempotency-Key is not used up: the corrected request may have the same one.",
    "new_key": "The request has had no effect, and never will. If it is still wanted, send it with a new key.",
    "ask": "Ask the operator of the service. Do not send the request with a new Idempotency-Key.",
}
"""What a client does about a problem."""


class ProblemType(NamedTuple):
    """A kind of problem.

    Attributes:
        code: Stable name, for programs.
        status: HTTP status. Each code has one.
        action: What a client does about it, as in `CLIENT_ACTIONS`.
        meaning: What is wrong, in general, in a sentence.
        advice: What a client does about it, in particular.
    """

    code: str
    status: int
    action: ClientAction
    meaning: str
    advice: str

    @property
    def type(self) -> str:
        """The member `type` of the problem details: a URN."""
        return TYPE_PREFIX + self.code

    @property
    def title(self) -> str:
        """The member `title` of the problem details."""
        return self.code.replace("_", " ").capitalize()


_TYPES = (
    ProblemType(
        "bad_request",
        400,
        "change",
        "This is no valid HTTP request, or its body is no JSON that can be read.",
        "Send valid HTTP/1.1, and JSON in UTF-8.",
    ),
    ProblemType(
        "too_deep",
        400,
        "change",
        "The body has too many brackets and braces.",
        "Send only the members that the route has.",
    ),
    ProblemType(
        "idempotency_key_missing",
        400,
        "change",
        "The request would send a transaction, and has no Idempotency-Key.",
        "Choose a key, such as a new UUID, store it, and send it with the request.",
    ),
    ProblemType(
        "forged_webhook",
        400,
        "change",
        "The webhook is not signed with the gateway's secret.",
        "Only the gateway sends webhooks. If it did, give it the service's secret.",
    ),
    ProblemType(
        "unauthenticated",
        401,
        "change",
        "There is no bearer token, or it is not valid, or it has expired.",
        "Get a new token; `detail` says what is wrong with this one.",
    ),
    ProblemType(
        "payment_required",
        402,
        "change",
        "The request costs INR, and names no quote that is paid.",
        "Get a quote, pay it, and send its id as `quote_id`.",
    ),
    ProblemType(
        "not_paid",
        402,
        "wait",
        "The quote is not paid yet.",
        "Repeat the request when the payment is `captured`.",
    ),
    ProblemType(
        "forbidden",
        403,
        "change",
        "The token is valid, and its user may not do this.",
        "Act only on what belongs to the token's user, with the role that the route takes.",
    ),
    ProblemType(
        "origin_not_allowed",
        403,
        "change",
        "The service does not let pages of this origin send this request from a browser.",
        "Ask the operator to add the origin to CORS_ORIGINS, or call the API from a server.",
    ),
    ProblemType(
        "not_found",
        404,
        "change",
        "There is no user, experience, event run, booking, payment or operation with this id.",
        "Check the id.",
    ),
    ProblemType(
        "unknown_route",
        404,
        "change",
        "The API has no such path.",
        "Check the path; `/openapi.json` has all.",
    ),
    ProblemType(
        "method_not_allowed",
        405,
        "change",
        "The path exists, and does not take this method.",
        "Use a method out of the header `Allow`.",
    ),
    ProblemType(
        "request_timeout",
        408,
        "repeat",
        "The request did not arrive completely in time.",
        "Send head and body at once.",
    ),
    ProblemType(
        "key_reused",
        409,
        "new_key",
        "The Idempotency-Key belongs to another request.",
        "Use a new key for each thing that is to be done. Only a repetition has the same key.",
    ),
    ProblemType(
        "contract_rejected",
        409,
        "new_key",
        "The contract refused it: `error` and `arguments` are the contract's error. If `outcome` is `rejected`, "
        "no transaction was sent; if it is `reverted`, one failed on chain.",
        "Look at `error`, such as NotEnoughSeats or TooEarly. Change the request, or send it later, as a new one.",
    ),
    ProblemType(
        "superseded",
        409,
        "new_key",
        "Another transaction took this one's place, or a reorganisation took what it names. It has no effect, and "
        "never will.",
        "If it is still wanted, send it as a new request.",
    ),
    ProblemType(
        "transaction_refused",
        409,
        "new_key",
        "The network's nodes refused the transaction for good. It has no effect, and never will.",
        "Ask the operator why. If it is still wanted, send it as a new request.",
    ),
    ProblemType(
        "expired",
        409,
        "new_key",
        "The request could not be sent for too long, and was given up. It has no effect, and never will.",
        "If it is still wanted, send it as a new request.",
    ),
    ProblemType(
        "cancelled",
        409,
        "new_key",
        "An operator cancelled the operation. It has no effect, and never will.",
        "Ask the operator why. If it is still wanted, send it as a new request.",
    ),
    ProblemType(
        "nothing_to_approve",
        409,
        "change",
        "No limit holds the operation, so there is nothing to approve.",
        "Read the operation: only one that is held with the cause `above_limit` can be approved.",
    ),
    ProblemType(
        "not_on_chain",
        409,
        "wait",
        "The event run or booking is not on chain yet: its transaction is not final.",
        "Repeat the request, or read the event run or booking until its `blockchain_status` is `confirmed`.",
    ),
    ProblemType(
        "never_on_chain",
        409,
        "change",
        "The transaction that should have created the event run or booking failed: it never came on chain.",
        "Create a new one.",
    ),
    ProblemType(
        "payment_unusable",
        409,
        "change",
        "The payment is used, refunded, expired or disputed, or is another request's.",
        "Get a new quote. What was paid and not used goes back by itself.",
    ),
    ProblemType(
        "too_large",
        413,
        "change",
        "The body is too long.",
        "Send at most 64 KiB.",
    ),
    ProblemType(
        "uri_too_long",
        414,
        "change",
        "The URL is too long.",
        "Send at most 4 KiB.",
    ),
    ProblemType(
        "invalid_request",
        422,
        "change",
        "A parameter, a header or a member of the body is not valid.",
        "Look at `errors`: each names the place, and what is wrong with it.",
    ),
    ProblemType(
        "invalid_cursor",
        422,
        "change",
        "The cursor is not one that the API gave out for this list, these filters and this caller.",
        "Start again with the first page: without a cursor.",
    ),
    ProblemType(
        "too_many_headers",
        431,
        "change",
        "The request has too many headers.",
        "Send at most 100.",
    ),
    ProblemType(
        "internal_error",
        500,
        "repeat",
        "The service made a mistake.",
        "Repeat the request with the same key; it has one effect at most. Tell the operator the X-Request-Id.",
    ),
    ProblemType(
        "unsupported_by_contract",
        501,
        "change",
        "The deployed contract does not have the function that this takes. Nothing was sent.",
        "Don't offer this with this contract.",
    ),
    ProblemType(
        "unexpected_receipt",
        502,
        "ask",
        "The transaction succeeded without the event that has its ids and amounts.",
        "Ask the operator: money may have moved.",
    ),
    ProblemType(
        "gateway_refused",
        502,
        "ask",
        "The payment gateway refused the order.",
        "Ask the operator. Nothing was paid.",
    ),
    ProblemType(
        "chain_unavailable",
        503,
        "repeat",
        "The Ethereum node does not answer at present. Nothing was stored, or `operation` names what goes on by "
        "itself.",
        "Repeat the request until it is answered.",
    ),
    ProblemType(
        "database_unavailable",
        503,
        "repeat",
        "The database can't be used at present. The request may have been stored.",
        "Repeat the request until it is answered: with the same key, it has one effect.",
    ),
    ProblemType(
        "database_busy",
        503,
        "repeat",
        "The database has no connection, lock or time for the request at present.",
        "Repeat the request, less often.",
    ),
    ProblemType(
        "gateway_unavailable",
        503,
        "repeat",
        "The payment gateway does not answer at present.",
        "Repeat the request until it is answered.",
    ),
    ProblemType(
        "no_price",
        503,
        "wait",
        "There is no price of ETH that may be used, so nothing can be quoted.",
        "Repeat the request when the operator has mended the price.",
    ),
    ProblemType(
        "paused",
        503,
        "wait",
        "The operator has paused new event runs and bookings. Nothing was stored. All else works.",
        "Repeat the request when the pause is over.",
    ),
    ProblemType(
        "not_ready",
        503,
        "wait",
        "The service can't carry out operations at present; `checks` says why.",
        "Send it no requests until this is 200.",
    ),
    ProblemType(
        "too_many_connections",
        503,
        "repeat",
        "The service has too many connections.",
        "Use few connections, and keep them.",
    ),
)

PROBLEM_TYPES: dict[str, ProblemType] = {each.code: each for each in _TYPES}
"""All problem types by code, in the order of their HTTP status."""

EVERYWHERE = (
    "bad_request",
    "too_deep",
    "request_timeout",
    "too_large",
    "uri_too_long",
    "too_many_headers",
    "internal_error",
    "too_many_connections",
)
"""Codes that every route may respond with."""
READING = ("unauthenticated", "invalid_request", "database_unavailable", "database_busy")
"""Codes of every route that takes a token."""
KEYED = ("key_reused",)
"""Codes of every route that takes an Idempotency-Key."""
SENDING = (
    *READING,
    *KEYED,
    "forbidden",
    "not_found",
    "not_on_chain",
    "never_on_chain",
    "contract_rejected",
    "superseded",
    "transaction_refused",
    "cancelled",
    "unexpected_receipt",
    "chain_unavailable",
)
"""Codes of every route that sends a transaction."""
PAID = ("payment_required", "not_paid", "payment_unusable")
"""Codes of every route that takes a quote which is paid."""


def status_phrase(status: int) -> str:
    """Returns the reason phrase of an HTTP status."""
    return HTTPStatus(status).phrase
