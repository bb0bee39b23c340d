"""The words of refusals: each row of the table, and what must not be taken for one."""

from __future__ import annotations

import pytest
from app.core.errors import ContractRejected
from app.services import rpc
from app.services.codec import event_stake_codec
from app.services.rpc_errors import NODE_ERRORS, Refused, as_contract_rejected, classify
from app.services.rpc_refusals import RefusalKind, is_range_refusal, is_trouble, known_refusals, refusal_kind
from app.services.rpc_types import NodeError
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from requests import ConnectionError as LostConnection
from stakesim.evm.lean_web3 import lean_web3
from web3.exceptions import ContractLogicError
from web3.providers import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

CLIENTS = ("geth", "Nethermind", "Besu", "Erigon", "Reth")
RAW = "0x02f86d"
TROUBLE = [
    "header not found",
    "missing trie node 5ac7c3 (path )",
    "Internal error",
    "backend is syncing",
    "upstream connect error or disconnect/reset before headers",
    "we can't execute this request",
    "execution aborted (timeout = 5s)",
    "daily request count exceeded, request rate limited",
    "limit exceeded",
    "Initial sync is still in progress",
    "Timeout expired",
    "the method eth_sendRawTransaction does not exist/is not available",
    "Unauthorized: invalid api key",
    "Transaction pool not enabled. (Either txpool explicitly disabled, or node not yet in sync).",
]


class Says(BaseProvider):
    """A node that answers each request with one error."""

    def __init__(self, message: str, data: str | None = None) -> None:
        super().__init__()
        self.error = {"code": -32000, "message": message} | ({} if data is None else {"data": data})

    def make_request(self, method: RPCEndpoint, params: object) -> RPCResponse:
        return {"jsonrpc": "2.0", "id": 1, "error": self.error}  # type: ignore[typeddict-item]


@pytest.mark.slow
def test_34_each_clients_words_are_known(subtests: pytest.Subtests) -> None:
    for refusal in known_refusals():
        with subtests.test(refusal.client, words=refusal.example):
            with pytest.raises(Refused) as caught:
                rpc.send_raw(lean_web3(Says(refusal.example)), RAW)
            assert caught.value.kind is refusal.kind
            assert classify(caught.value) is classify(refusal.example) is refusal.kind
            assert refusal.source.count("/") >= 2, "repository and path"
            assert not is_trouble(refusal.example)


@pytest.mark.parametrize("form", ["failed with 16777216 gas: {}", "err: {} (supplied gas 15000000)", "{}."])
def test_34_geths_words_about_an_estimate(form: str) -> None:
    for words in ("insufficient funds for gas * price + value", "insufficient funds for transfer"):
        with pytest.raises(Refused) as caught:
            rpc.estimate_gas(lean_web3(Says(form.format(words))), "0x" + "c0" * 20, b"", "pending")
        assert caught.value.kind is RefusalKind.NO_FUNDS


@pytest.mark.parametrize("kind", [RefusalKind.NO_FUNDS, RefusalKind.NONCE_TOO_LOW, RefusalKind.KNOWN])
@pytest.mark.parametrize("client", CLIENTS)
def test_34_what_the_sender_must_understand_is_known_of_each_client(client: str, kind: RefusalKind) -> None:
    """Reth and Erigon use geth's words for a nonce that is too low."""
    rows = [refusal for refusal in known_refusals() if refusal.client in (client, "geth") and refusal.kind is kind]
    assert rows
    assert kind is not RefusalKind.NO_FUNDS or any(refusal.client == client for refusal in rows)


def test_34_permanent_and_temporary_refusals() -> None:
    assert RefusalKind.FEE_CAP.is_permanent
    assert not any(RefusalKind[name].is_permanent for name in ("KNOWN", "NO_FUNDS", "POOL_FULL", "ACCOUNT_LIMIT"))
    assert {kind for kind in RefusalKind if kind.is_local} >= {RefusalKind.FEE_CAP, RefusalKind.POOL_FULL}


@pytest.mark.parametrize("words", ["transaction rejected", "no", "", "some words that nobody has foreseen"])
def test_34_a_refusal_that_nobody_foresaw_is_unknown_and_quoted(words: str) -> None:
    with pytest.raises(Refused) as caught:
        rpc.send_raw(lean_web3(Says(words)), RAW)
    assert (caught.value.kind, caught.value.words, classify(caught.value)) == (None, words, None)


@pytest.mark.parametrize("words", TROUBLE)
def test_34_trouble_is_no_refusal(words: str) -> None:
    with pytest.raises(NodeError) as caught:
        rpc.send_raw(lean_web3(Says(words)), RAW)
    assert not isinstance(caught.value, Refused)
    assert isinstance(caught.value, NODE_ERRORS)
    assert classify(caught.value) is None


def test_34_a_lost_connection_is_no_refusal() -> None:
    assert classify(LostConnection("nonce too low")) is None
    assert classify(OSError("already known")) is None


WORDS = ["the", "nonce", "of", "transaction", "is", "too", "low", "high", "fee", "gas", "funds", "known", "pool"]
SENTENCES = st.lists(
    st.sampled_from(WORDS) | st.text("abcdefghij", min_size=1, max_size=8), min_size=4, max_size=12
).map(lambda words: "he said that " + " ".join(words))


@given(SENTENCES)
def test_34_other_sentences_are_unknown(sentence: str) -> None:
    assert refusal_kind(sentence) is None


@pytest.mark.parametrize("form", ["ERC20: {}", "he said {} and left", "({})"])
def test_34_only_whole_messages_count(form: str) -> None:
    examples = [refusal.example for refusal in known_refusals()]
    assert [words for words in examples if refusal_kind(form.format(words)) is not None] == []


@given(st.text(max_size=30))
def test_34_noise_is_unknown(noise: str) -> None:
    assert refusal_kind("#" + noise) is None


@pytest.mark.slow
@pytest.mark.parametrize("form", ["execution reverted: {}", "VM Exception while processing transaction: revert {}"])
def test_34_a_contracts_words_are_not_the_nodes(form: str, subtests: pytest.Subtests) -> None:
    """A contract that reverts with a client's words rejects the call; the node does not refuse the transaction."""
    for words in dict.fromkeys(refusal.example for refusal in known_refusals()):
        data = "0x08c379a0" + encode(["string"], [words]).hex()
        for says in (Says(form.format(words), data), Says(form.format(words))):
            with subtests.test(words, error=says.error):
                with pytest.raises(ContractLogicError) as caught:
                    rpc.estimate_gas(lean_web3(says), "0x" + "c0" * 20, b"", "pending")
                rejection = as_contract_rejected("bookEvent", caught.value, event_stake_codec())
                assert isinstance(rejection, ContractRejected)
                assert classify(caught.value) is None
                assert not is_trouble(str(says.error["message"]))


@pytest.mark.parametrize(
    "words",
    [
        "query returned more than 10000 results",
        "block range is too wide",
        "exceed maximum block range: 5000",
        "eth_getLogs is limited to a 1000 blocks range",
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit",
        "Requested range exceeds maximum RPC range limit",
        "query timeout exceeded",
        "logs are limited to 50 blocks per query",
        "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range.",
    ],
)
def test_38_words_for_too_many_blocks_or_logs(words: str) -> None:
    assert is_range_refusal(words)


@pytest.mark.parametrize("words", ["header not found", "Internal error", "request rate exceeded"])
def test_38_other_words(words: str) -> None:
    assert not is_range_refusal(words)
