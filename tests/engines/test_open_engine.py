"""Opening and closing engines: errors are clear, and nothing is left running."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import stakesim.evm.anvil
from eth_account import Account
from stakesim.evm.engines import engine_with_rules, open_engine
from stakesim.evm.errors import EngineError, NotSupported

from tests.engines.transactions import deploy, send


def answers(url):
    try:
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=1).close()
    except OSError:
        return False
    return True


def stops_answering(url, seconds=5.0):
    deadline = time.monotonic() + seconds
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not answers(url)


@pytest.mark.parametrize("name", ["geth", "", "rpc:", "rpc:localhost:8545", "ws://127.0.0.1:1"])
def test_unknown_engine_error_lists_the_choices(name):
    with pytest.raises(EngineError, match="choose py-evm, revm, anvil, or rpc:http://"):
        open_engine(name)


def test_unknown_rules_error_lists_the_choices():
    with pytest.raises(EngineError, match="no rules 'london': choose cancun, prague, osaka"):
        open_engine("anvil:london")


def test_only_an_anvil_that_is_started_here_can_have_other_rules():
    assert engine_with_rules(None, None) is None
    assert engine_with_rules("revm", None) == "revm"
    assert engine_with_rules(None, "osaka") == engine_with_rules("anvil", "osaka") == "anvil:osaka"
    for engine in ("py-evm", "revm", "rpc:http://127.0.0.1:9"):
        with pytest.raises(EngineError, match=f"The engine {engine} has rules of its own: leave out --hardfork"):
            engine_with_rules(engine, "osaka")


@pytest.mark.parametrize("prefix", ["", "rpc:"])
def test_unreachable_url_is_an_error(prefix):
    with pytest.raises(EngineError, match=r"No Ethereum node answers at http://127\.0\.0\.1:9"):
        open_engine(f"{prefix}http://127.0.0.1:9")


def test_missing_anvil_error_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(stakesim.evm.anvil, "node_modules", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"make setup-dev.*Foundry's anvil"):
        open_engine("anvil")


def test_error_has_the_output_of_an_anvil_that_does_not_start(monkeypatch, tmp_path):
    other = tmp_path / "anvil"
    other.write_text("#!/bin/sh\necho I am too old for $1")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(EngineError, match="anvil did not start; it said: I am too old for --port"):
        open_engine("anvil")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["py-evm", "anvil"])
def test_capabilities_and_accounts(name):
    with closing(open_engine(name)) as engine:
        assert engine.name == name
        assert engine.capabilities == {"time", "snapshot", "balance", "storage"}
        assert len(engine.accounts) == 40
        assert {engine.w3.eth.get_balance(account.address) for account in engine.accounts} == {10**24}


def test_close_stops_anvil_and_may_be_repeated():
    engine = open_engine("anvil")
    url = engine.w3.provider.endpoint_uri
    assert answers(url)
    engine.close()
    assert stops_answering(url)
    engine.close()


@pytest.mark.slow
def test_anvil_ends_with_the_process_that_started_it():
    """A process that is killed, and one that ends without calling close()."""
    code = (
        "import sys; from stakesim.evm.engines import open_engine; engine = open_engine('anvil');"
        "print(engine.w3.provider.endpoint_uri, flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code]
    killed, ended = parents = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    urls = [parent.stdout.readline().strip() for parent in parents]
    assert all(answers(url) for url in urls)
    killed.kill()
    killed.communicate(timeout=20)
    ended.communicate(timeout=20)
    assert ended.returncode == 0
    assert all(stops_answering(url) for url in urls)


@pytest.fixture
def live_network():
    """A node without development methods: the py-evm one, over HTTP. Its URL, and the engine behind it."""
    behind = open_engine("py-evm")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            response = behind.w3.provider.make_request(request["method"], request["params"])
            body = json.dumps({**response, "id": request["id"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", behind
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_live_network_has_no_development_capabilities(live_network):
    url, behind = live_network
    key = "0x" + "11" * 32
    behind.set_balance(Account.from_key(key).address, 10**18)
    engine = open_engine(url, keys=[key])
    assert engine.capabilities == frozenset()
    assert [account.address for account in engine.accounts] == [Account.from_key(key).address]

    probe = deploy(engine)
    assert send(engine, probe.functions.recordTime())["status"] == 1
    assert engine.now() == behind.now() == probe.functions.recordedTime().call()
    for forbidden in (
        lambda: engine.set_next_timestamp(engine.now() + 10),
        engine.mine,
        engine.snapshot,
        lambda: engine.revert(None),
        lambda: engine.set_balance(probe.address, 1),
    ):
        with pytest.raises(NotSupported, match="use py-evm or anvil"):
            forbidden()


def test_live_network_has_no_accounts_without_keys(live_network):
    assert list(open_engine(live_network[0]).accounts) == []


@pytest.mark.slow
def test_finding_capabilities_changes_nothing_on_the_node():
    with closing(open_engine("anvil")) as node:
        url, key = node.w3.provider.endpoint_uri, "0x" + "22" * 32
        node.set_next_timestamp(node.now() + 1_000)

        def state():
            pending = node.w3.eth.get_block("pending")
            ones = node.w3.eth.get_balance("0x" + "00" * 19 + "01")
            return node.w3.eth.get_block("latest")["hash"], pending["timestamp"], pending["baseFeePerGas"], ones

        before = state()
        assert open_engine(url, keys=[key]).capabilities == {"time", "snapshot", "balance", "storage"}
        assert state() == before
