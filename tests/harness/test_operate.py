"""The operator's commands, on a local testnet: anvil in real time, a block a second.

In the quick profile blocks come faster, and instead of waiting for an event's start the chain's clock is advanced.
"""

import io
import json
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from app.bootstrap import smoke_test
from app.bootstrap.accounts import open_keystore
from app.bootstrap.container import connect_services
from app.core.config import Settings
from app.db import database
from app.db.database import create_database, drop_database
from app.db.embedded import start_embedded
from app.db.tables import event_runs
from eth_account import Account
from sqlalchemy import create_engine, inspect, update
from stakesim.commands import cli
from stakesim.paths import checkout, state_dir
from stakesim_adapter.serve import local_testnet

ROOT = checkout()

COMMAND = Path(sys.executable).with_name("stakesim")
SOON = "5"
"""Seconds to an event's start: enough to create and book before."""
QUICK_BLOCK_S = 0.2


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module", autouse=True)
def bare_environment():
    """Removes the machine's own settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(name.upper(), raising=False)
        patch.setenv("CONFIRMATIONS", "1")
        yield


@pytest.fixture(scope="module")
def served(request):
    """Settings of a local testnet on which nothing has happened."""
    quick = request.config.getoption("--profile") == "quick"
    with pytest.MonkeyPatch.context() as patch, local_testnet(QUICK_BLOCK_S if quick else 1) as settings:
        if quick:
            patch.setattr(smoke_test, "_wait_until", _ahead_and(smoke_test._wait_until))
        services = connect_services(settings)
        yield settings
        services.database.engine.dispose()


@pytest.fixture(scope="module")
def smoked(served, tmp_path_factory) -> str:
    """Output of a smoke test on the local testnet."""
    file = tmp_path_factory.mktemp("smoke") / "env"
    file.write_text(as_env(served))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", ["stakesim", "smoke", "--starts-in", SOON, "--env-file", str(file)])
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main()
    return said.getvalue()


def _ahead_and(wait_until):
    """Advances anvil's clock before it waits."""

    def wait(w3, moment: int) -> None:
        ask = w3.manager.request_blocking
        ask("evm_increaseTime", [max(moment - w3.eth.get_block("latest")["timestamp"], 0)])
        ask("evm_mine", [])
        wait_until(w3, moment)

    return wait


def as_env(settings, **given) -> str:
    values = {name: getattr(settings, name) for name in Settings.model_fields} | given
    for secret in ("platform_private_key", "jwt_secret"):
        values[secret] = getattr(settings, secret).get_secret_value()
    return "".join(f"{name.upper()}={value}\n" for name, value in values.items() if value is not None)


@pytest.fixture
def env(served, tmp_path):
    """Writes a `.env` for the local testnet, with overrides, and returns its path."""

    def write(**given) -> str:
        (tmp_path / "env").write_text(as_env(served, **given))
        return str(tmp_path / "env")

    return write


@pytest.fixture
def stakesim(monkeypatch, capsys):
    """Runs the command in this process, and checks that its output has no secret and no traceback.

    A command leaves its connections to the end of the process; here they end with the test.
    """
    engines, create_engine = [], database.create_engine

    def create(*args, **options):
        engines.append(create_engine(*args, **options))
        return engines[-1]

    monkeypatch.setattr(database, "create_engine", create)

    def call(*args: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["stakesim", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        told = said.out + said.err
        assert "Traceback" not in told
        if "--env-file" in args:
            file = Path(args[args.index("--env-file") + 1])
            secrets = re.findall("(?:KEY|SECRET)=(?:0x)?(.+)", file.read_text() if file.exists() else "")
            assert not [secret for secret in secrets if secret in told]
        return Done(int(ended.value.code or 0), said.out, said.err)

    yield call
    for engine in engines:
        engine.dispose()


def check_error(done: Done, words: str) -> None:
    """Checks for one sentence and exit code 2."""
    assert done.returncode == 2, done
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("stakesim: ")
    assert words in last


@pytest.mark.slow
def test_the_command_line_imports_no_heavy_libraries():
    asked = (
        "import sys, stakesim.commands.cli; "
        "print([name for name in ('web3', 'sqlalchemy', 'uvicorn') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", asked], text=True).strip() == "[]"


# -------------------------------------------------------------------------------------------------------- wallet


@pytest.mark.slow
def test_a_wallet_is_created_and_its_key_not_shown(stakesim, tmp_path):
    file = tmp_path / "env"
    done = stakesim("wallet", "new", "--env-file", str(file))
    assert done.returncode == 0
    assert re.match("0x[0-9a-fA-F]{40}: its key is in ", done.stdout)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    check_error(stakesim("wallet", "new", "--env-file", str(file)), "has a PLATFORM_PRIVATE_KEY already")
    check_error(stakesim("wallet", "new", "--env-file", str(tmp_path / "nowhere" / "env")), "No such file or directory")


@pytest.mark.slow
def test_a_smoke_test_with_the_key_in_a_keystore(stakesim, env, served, tmp_path):
    """The file that the command makes is filled with the key of the contract's owner."""
    file, keystore, password = tmp_path / "new.env", tmp_path / "key.json", tmp_path / "password"
    password.write_text("correct horse battery staple\n")
    password.chmod(0o600)
    done = stakesim(
        "wallet", "new", "--keystore", str(keystore), "--password-file", str(password), "--env-file", str(file)
    )
    assert done.returncode == 0, done.stderr
    assert f"its key is in {keystore}. " in done.stdout
    settings = {"platform_keystore": keystore, "platform_keystore_password_file": password}
    key = served.platform_private_key.get_secret_value()
    keystore.write_text(json.dumps(Account.encrypt(key, password.read_text().strip(), kdf="pbkdf2", iterations=2)))
    path = Path(env(**settings))
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "PRIVATE_KEY" not in line))
    done = stakesim("smoke", "--starts-in", SOON, "--env-file", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "smoke test passed" in done.stdout
    password.write_text("another password\n")
    open_keystore.cache_clear()
    check_error(stakesim("smoke", "--env-file", str(path)), f"The password of the keystore {keystore} is wrong.")


@pytest.mark.slow
def test_migrate_applies_what_is_missing_and_says_so(stakesim, tmp_path):
    server, name = start_embedded(state_dir() / "postgres"), "test_operate_migrate"
    engine = create_database(server, name)
    file = tmp_path / "env"
    file.write_text(f"DATABASE_URL={engine.url.render_as_string()}\n")
    first, second = (stakesim("migrate", "--env-file", str(file)) for _ in range(2))
    engine.dispose()
    drop_database(server, name)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith("applied 001_base_tables, 002_")
    assert second.stdout.splitlines()[0] == "all migrations are applied"


# -------------------------------------------------------------------------------------------------------- doctor


@pytest.mark.slow
def test_doctor_passes_on_a_good_network(stakesim, env):
    """The embedded server has one user, a superuser; another database is one with a role for the service."""
    done = stakesim("doctor", "--env-file", env(payments="manual"))
    assert re.findall("^FAIL +(.*?)  ", done.stdout, re.MULTILINE) == ["database user"]
    assert done.stdout.splitlines()[-1] == "1 of 17 checks failed"
    assert done.returncode == 1, done.stdout


@pytest.mark.slow
def test_doctor_says_how_the_rules_of_the_network_differ(stakesim, env):
    """The local testnet has Sepolia's, which are Osaka's."""
    done = stakesim("doctor", "--env-file", env(payments="manual"))
    (line,) = re.findall("^ok +rules +(.*)$", done.stdout, re.MULTILINE)
    assert line == (
        "The network has the rules of Osaka, the engines that scenarios run on those of Prague; what differs: a "
        "transaction may use at most 16,777,216 gas (EIP-7825), MODEXP takes less, and costs more (EIP-7823 and "
        "EIP-7883), the instruction CLZ (EIP-7939), the precompile P256VERIFY (EIP-7951). `stakesim run --hardfork "
        "osaka` runs them on the network's."
    )


@pytest.mark.slow
def test_doctor_live_runs_a_lifecycle_and_a_rejected_call(stakesim, env):
    done = stakesim("doctor", "--live", "--starts-in", SOON, "--env-file", env(payments="manual"))
    told = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    words = [line.split()[0] for line in told if not line.startswith(" ")]
    lifecycle = ["created", "one", "booked", "one", "created", "cancelled", "waiting", "completed", "smoke"]
    assert words == ["FAIL", *lifecycle, "1"], done.stdout + done.stderr
    assert "refused before it was sent: bookEvent was refused by the contract: NotEnoughSeats" in done.stdout
    gas = re.findall(r"^  0x[0-9a-f]{64} in block \d+, ([\d,]+) gas for 0\.\d+ ETH$", done.stdout, re.MULTILINE)
    assert len(gas) == 5
    assert f"smoke test passed; {sum(int(one.replace(',', '')) for one in gas):,} gas" in done.stdout


@pytest.mark.parametrize(
    ("given", "name", "todo"),
    [
        ({"chain_id": 1}, "endpoint 1 of 1", "or CHAIN_ID"),
        ({"blockchain_rpc_url": "http://127.0.0.1:9/url-secret"}, "network", "Correct BLOCKCHAIN_RPC_URL"),
        ({"contract_address": "0x" + "ab" * 20}, "contract", "Correct CONTRACT_ADDRESS"),
        ({"contract_code_hash": "0x" + "ab" * 32}, "code", "set CONTRACT_CODE_HASH"),
        ({"eth_price_inr": None}, "price", "Set ETH_PRICE_INR"),
        ({"max_fee_gwei": "0.0000000001", "priority_fee_gwei": "0.0000000001"}, "fees", "Raise MAX_FEE_GWEI"),
        ({"database_url": "postgresql://nobody@127.0.0.1:9/none"}, "database", "correct DATABASE_URL"),
    ],
)
@pytest.mark.slow
def test_doctor_shows_what_fails_and_what_to_do(stakesim, env, given, name, todo):
    done = stakesim("doctor", "--env-file", env(**given))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if re.match(f"FAIL +{name} ", line))
    assert todo in lines[at + 1]
    assert "url-secret" not in done.stdout + done.stderr


def test_doctor_shows_missing_settings(stakesim, tmp_path):
    done = stakesim("doctor", "--env-file", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "CONTRACT_ADDRESS is not set" in done.stdout


@pytest.mark.slow
def test_doctor_sends_nothing_if_a_check_fails(stakesim, env):
    done = stakesim("doctor", "--live", "--env-file", env(contract_address="0x" + "ab" * 20))
    assert done.returncode == 1
    assert "created" not in done.stdout


# --------------------------------------------------------------------------------------------------------- smoke


@pytest.mark.slow
def test_smoke_prints_each_transaction(smoked):
    assert len(re.findall("^  0x[0-9a-f]{64} in block ", smoked, re.MULTILINE)) == 3
    assert "completed event run" in smoked
    assert "smoke test passed; " in smoked


@pytest.mark.slow
def test_smoke_deploys_on_request(stakesim, env, served):
    file = env(blockchain_rpc_url="http://127.0.0.1:9", contract_address=None, eth_price_inr=None)
    args = ("--rpc", served.blockchain_rpc_url, "--starts-in", SOON, "--env-file", file)
    check_error(stakesim("smoke", *args), "CONTRACT_ADDRESS is not set")
    done = stakesim("smoke", "--deploy", *args)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("deployed 0x")
    assert "completed event run 1\n" in done.stdout


@pytest.mark.slow
def test_smoke_sends_nothing_to_another_network(stakesim, env, served):
    file = env(chain_id=1)
    check_error(stakesim("smoke", "--env-file", file), "is on chain 11155111, not on chain 1")
    check_error(stakesim("smoke", "--deploy", "--env-file", file), "is on chain 11155111, not on chain 1")
    check_error(stakesim("smoke", "--rpc", "http://127.0.0.1:9/key", "--env-file", env()), "No endpoint answers")
    check_error(stakesim("smoke", "--rpc", "ftp://x", "--env-file", env()), "BLOCKCHAIN_RPC_URL is wrong")


@pytest.mark.slow
def test_smoke_is_stopped_by_ctrl_c(env):
    with started("smoke", "--starts-in", "600", "--env-file", env()) as smoke:
        said = wait_for(smoke, "waiting for the start")
        smoke.send_signal(signal.SIGINT)
        out, err = smoke.communicate(timeout=20)
    assert smoke.returncode == 130
    assert "Traceback" not in said + out + err


# ------------------------------------------------------------------------------------------------------ payments


@pytest.mark.slow
def test_payments_are_listed_and_say_what_is_wrong(stakesim, env):
    file = env(payments="manual")
    listed = stakesim("payments", "--env-file", file)
    assert (listed.returncode, listed.stdout) == (0, "no refund is open, and no payment is disputed\n")
    nobody = "00000000-0000-0000-0000-000000000001"
    recording = ("payments", "capture", nobody, "--reference", "UTR1", "--amount")
    check_error(stakesim(*recording, "1", "--env-file", file), f"There is no payment {nobody}")
    check_error(stakesim("payments", "retry", nobody, "--env-file", file), f"There is no payment {nobody}")
    check_error(stakesim("payments", "show", nobody, "--env-file", env()), "This service takes no payments")
    refund = ("payments", "refund", nobody, "--reference", "UTR1", "--env-file", file)
    check_error(stakesim(*refund), "Give --yes to record it without a terminal")
    assert "is no amount" in stakesim(*recording, "much", "--env-file", file).stderr


# ----------------------------------------------------------------------------------------------------- reconcile


@pytest.mark.slow
def test_reconcile_shows_differences_and_corrects_them(stakesim, env, served, smoked):
    file = env()
    done = stakesim("reconcile", "--dry-run", "--env-file", file)
    assert (done.returncode, done.stdout) == (0, "0 operations pending, 0 differences\n")
    database = create_engine(served.database_url)
    with database.begin() as connection:
        changed = update(event_runs).where(event_runs.c.status == "completed").values(seats_booked=0)
        count = connection.execute(changed).rowcount
    database.dispose()
    assert count > 0
    for _ in range(2):
        done = stakesim("reconcile", "--dry-run", "--env-file", file)
        assert done.returncode == 1
        assert f"{count} differences" in done.stdout
        assert "seats_booked is 0 in the database, 1 on chain" in done.stdout
    assert "taken over from the chain" in stakesim("reconcile", "--env-file", file).stdout
    assert stakesim("reconcile", "--dry-run", "--env-file", file).returncode == 0


@pytest.mark.slow
def test_a_dry_run_applies_no_migration(stakesim, env, profile):
    with local_testnet(QUICK_BLOCK_S if profile == "quick" else 1) as fresh:
        file = Path(env())
        file.write_text(as_env(fresh))
        check_error(stakesim("reconcile", "--dry-run", "--env-file", str(file)), "The database lacks 001_base_tables")
        done = stakesim("doctor", "--env-file", str(file))
        assert done.returncode == 1
        assert re.search("FAIL +migrations", done.stdout)
        database = create_engine(fresh.database_url)
        assert inspect(database).get_table_names() == []
        database.dispose()


# --------------------------------------------------------------------------------------------------------- serve


@contextmanager
def started(*args: str):
    """Starts the command as a process in the checkout, so that SIGINT can be sent to it."""
    process = subprocess.Popen(
        [COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process, words: str) -> str:
    """Returns the output up to the line with these words."""
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it ended: {said}\n{process.stderr.read()}")


@pytest.mark.in_turn
@pytest.mark.slow
def test_the_walkthrough_works_on_the_local_testnet(tmp_path, profile):
    file = tmp_path / "serve.env"
    no_settings = ("--env-file", str(tmp_path / "nowhere"))
    with started("serve", "--port", "0", "--variables", str(file), *no_settings) as server:
        said = wait_for(server, "Ctrl-C ends it")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        variables = file.read_text()
        url, rpc = (re.search(f"export {name}=(.*)", variables)[1] for name in ("API", "RPC"))
        assert f"serving {url}," in said
        assert httpx.get(f"{url}/ready").status_code == 200
        if profile == "quick":
            httpx.post(rpc, json={"jsonrpc": "2.0", "id": 1, "method": "evm_setAutomine", "params": [True]})
            script = walkthrough(file).replace("sleep 60", AHEAD)
        else:
            script = walkthrough(file).replace("soon 60", "soon 14").replace("sleep 60", "sleep 13")
        walked = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=120)
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=20)
    assert walked.returncode == 0, walked
    answers = walked.stdout + walked.stderr
    assert re.findall("(?m)^.* ETH$", answers) == ["0.0 ETH"] * 3 + ["0.46 ETH", "0.04 ETH", "0.0 ETH"]
    for told in ("Not paid", "Payment unusable", "Key reused", "TooEarly", '"differences":[]', '"status":"no_show"'):
        assert told in answers
    assert '"total_inr":"48000.00"' in answers
    assert (server.returncode, out) == (0, "stopped\n")
    assert "Traceback" not in err
    assert not file.exists()
    for gone in (url, rpc):
        with pytest.raises(httpx.ConnectError):
            httpx.get(gone)


AHEAD = r"""for ahead in '"evm_increaseTime","params":[60]' '"evm_mine","params":[]'; do
  curl -s "$RPC" -H 'Content-Type: application/json' -d '{"jsonrpc":"2.0","id":1,"method":'"$ahead"'}'
done"""
"""Shell commands that advance the chain's clock by 60 seconds."""


def walkthrough(variables: Path) -> str:
    """The commands of backend/WALKTHROUGH.md."""
    text = (ROOT / "backend" / "WALKTHROUGH.md").read_text()
    text = text[: text.index("## The same on Sepolia")].replace(". .stakesim/serve.env", f". {variables}")
    return re.search("(?s)```sh\n(.*?)```", text)[1] + "\n".join(re.findall(r"(?m)^\$ (?!make)(.*)$", text))


@pytest.mark.slow
def test_serve_uses_the_network_of_the_settings(stakesim, env, served, tmp_path):
    with started("serve", "--port", "0", "--env-file", env()) as server:
        said = wait_for(server, "Ctrl-C ends it")
        assert f"chain 11155111, contract {served.contract_address}" in said
        assert "local testnet" not in said
        url = re.search(r"serving (\S+),", said)[1]
        assert httpx.get(f"{url}/ready").json()["checks"]["chain_id"] == "ok"
        port = url.rpartition(":")[2]
        with socket.create_connection(("127.0.0.1", int(port)), 10) as no_http:  # the protocol with limits answers
            no_http.sendall(b"no HTTP\r\n\r\n")
            assert b"application/problem+json" in no_http.recv(4096)
        check_error(stakesim("serve", "--port", port, "--env-file", env()), "Address already in use")
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=20)
    assert (server.returncode, out) == (0, "stopped\n")
    for secret in (served.platform_private_key, served.jwt_secret):
        assert secret.get_secret_value().removeprefix("0x") not in said + out + err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"contract_address": "0x" + "ab" * 20}, "There is no contract at"),
        ({"contract_code_hash": "0x" + "ab" * 32}, "is not that of CONTRACT_CODE_HASH"),
        ({"chain_id": 1}, "not on chain 1"),
        ({"blockchain_rpc_url": "localhost"}, "BLOCKCHAIN_RPC_URL is wrong"),
    ],
)
def test_serve_refuses_to_start(stakesim, env, given, said):
    check_error(stakesim("serve", "--port", "0", "--env-file", env(**given)), said)
