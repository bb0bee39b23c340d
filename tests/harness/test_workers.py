"""Processes and a Dask cluster give the same results as one process, or an error of one sentence."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import as_completed
from contextlib import contextmanager

import pandas as pd
import pytest
from app.db.database import connect, create_database, drop_database
from sqlalchemy import text
from stakesim import run
from stakesim.campaign import execution
from stakesim.commands import cli
from stakesim.errors import NotInstalled
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.errors import EngineError
from stakesim.gate import mutation_run
from stakesim.gate.mutation_judge import LaneBudget
from stakesim.paths import checkout, state_dir
from stakesim.project import current_project
from stakesim.scenario.scenario import load
from stakesim.workers.pool import worker_pool
from stakesim.workers.processes import WorkerDied

ROOT = checkout()

pytestmark = pytest.mark.slow

dask = pytest.importorskip("dask", reason="Dask is an extra: pip install -e '.[dask]'")
distributed = pytest.importorskip("distributed", reason="Dask is an extra: pip install -e '.[dask]'")
psutil = pytest.importorskip("psutil", reason="Dask is an extra, and brings it: pip install -e '.[dask]'")
cluster = pytest.importorskip("stakesim.workers.cluster")

QUIET = {"distributed.scheduler.allowed-failures": 1, "distributed.admin.log-length": 0}
SCRIPTED = [ROOT / "scenarios" / f"{name}.yaml" for name in ("everybody-comes", "no-show", "host-cancels-full")]


@pytest.fixture(scope="module")
def database():
    """A database of the cluster's own, as an SQLAlchemy engine."""
    server = connect(None, state_dir() / "postgres").url
    shared = create_database(server, f"cluster_{os.getpid()}")
    yield shared
    shared.dispose()
    drop_database(server, f"cluster_{os.getpid()}")


@pytest.fixture(scope="module")
def two(database):
    """Two workers."""
    with pytest.MonkeyPatch.context() as patch, dask.config.set(QUIET):
        patch.setenv("DATABASE_URL", database.url.render_as_string(hide_password=False))
        patch.setenv("PYTHONPATH", f"{ROOT / 'harness'}{os.pathsep}{ROOT / 'backend'}")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as started:
            yield started


@pytest.fixture
def address(two, database, idle_compilers):
    """Address of the two workers, both alive. Afterwards checks that nothing is left on them."""
    with distributed.Client(two) as client:
        client.wait_for_workers(2)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield two.scheduler_address
    compilers = [psutil.Process(compiler.pid) for compiler in idle_compilers]  # of this process, not of the workers
    allowed = before | {each.pid for compiler in compilers for each in (compiler, *compiler.children(recursive=True))}
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= allowed
    with database.connect() as connection:
        schemas = "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'scenarios_%'"
        assert list(connection.scalars(text(schemas))) == []


@pytest.fixture
def empty():
    """A scheduler without workers."""
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=logging.CRITICAL) as started:
        yield started


@contextmanager
def worker(cluster, path=(ROOT / "harness", ROOT / "backend"), threads=1):
    """A worker, started as a user starts one. `path` has the folders of its code."""
    before = set(cluster.scheduler.workers)
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        cluster.scheduler_address,
        "--nthreads",
        str(threads),
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    options = ["--no-dashboard", "--no-nanny"]
    process = subprocess.Popen([*command, *options], env=env, stderr=subprocess.DEVNULL, cwd=path[0])
    try:
        while set(cluster.scheduler.workers) <= before:
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.in_turn
def test_campaign_ledger_is_equal_in_one_process_two_and_on_a_cluster(address, monkeypatch, engine_name):
    monkeypatch.setattr(execution, "BATCH", 2)
    items = [*SCRIPTED, "hostile"]
    expected = run(items, engine_name, runs=3, seed=5)
    for there in (
        run(items, engine_name, runs=3, seed=5, jobs=2),
        run(items, engine_name, runs=3, seed=5, dask=address),
    ):
        assert there.rows == expected.rows
        assert there.reached == expected.reached
        assert [played.scenario for played in there.results] == [played.scenario for played in expected.results]


def test_walks_are_equal_on_a_cluster(address, engine_name):
    here, there = (run(["hostile"], engine_name, runs=6, steps=15, seed=0, dask=where) for where in (None, address))
    assert here.rows == there.rows
    assert len(here.rows) > 50


@pytest.mark.in_turn
def test_mutant_statuses_are_equal_on_a_cluster(address, monkeypatch, engine_name):
    names = ("everybody-comes", "no-show")
    monkeypatch.setattr(
        mutation_run, "scenario_suite", lambda: [load(ROOT / "scenarios" / f"{name}.yaml") for name in names]
    )
    contract = f"{CONTRACTS / 'EventStake.sol'}:EventStake"
    lane = LaneBudget(kept=40, fresh=5)
    here, there = (
        mutation_run.mutate(
            contract, engine_name, jobs=1, only="uint256 forfeitsToHost", sample=5, lane=lane, dask=where
        )
        for where in (None, address)
    )
    assert [(v.mutant, v.status, v.reason) for v in there.verdicts] == [
        (v.mutant, v.status, v.reason) for v in here.verdicts
    ]
    assert "killed" in {verdict.status for verdict in there.verdicts}


def test_sweep_tables_are_equal_on_a_cluster(address, monkeypatch):
    """Bit for bit, floats and all."""
    from stakesim.economics import blocks, sweep
    from stakesim.population.behaviours import NoShow
    from stakesim.prices.price_models import Gbm

    monkeypatch.setattr(blocks, "CHUNKS_PER_BLOCK", 1)
    market = Gbm(inr_per_eth="200000", annual_volatility=0.8)
    here, there = (
        sweep({"stake_bps": [2_000, 0]}, [NoShow(elasticity=1.0)], market, 9_000, 1, dask=dask)
        for dask in (None, address)
    )
    pd.testing.assert_frame_equal(here, there, check_exact=True)


def test_all_workers_take_part_and_errors_of_calls_are_raised(address):
    with worker_pool(1, dask=address) as submit:
        calls = [submit(time.sleep, 0.2) for _ in range(4)] + [submit(os.getpid) for _ in range(10)]
        assert len({future.result() for future in as_completed(calls)} - {None}) == 2
        with pytest.raises(ZeroDivisionError):
            submit(divmod, 1, 0).result()
    with pytest.raises(EngineError, match="Unknown engine 'ganache': choose py-evm"):
        run(SCRIPTED, "ganache", dask=address)


def test_interrupted_campaign_leaves_nothing_on_the_workers(address, monkeypatch, engine_name):
    """The fixture sees to it."""
    monkeypatch.setattr(execution, "BATCH", 1)

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([*SCRIPTED, "hostile"], engine_name, runs=3, dask=address, progress=interrupt)


def test_work_of_a_dead_worker_is_done_by_another(two, monkeypatch, caplog, engine_name):
    monkeypatch.setattr(execution, "BATCH", 1)
    monkeypatch.setattr(cluster, "WATCH_INTERVAL_S", 0.1)
    with distributed.Client(two.scheduler_address, set_as_default=False) as client:
        victims = list(client.run(os.getpid).values())

    def kill_one(_):
        if len(victims) == 2:
            os.kill(victims.pop(), signal.SIGKILL)

    items = [*SCRIPTED, "hostile"]
    assert (
        run(items, engine_name, runs=3, dask=two.scheduler_address, progress=kill_one).rows
        == run(items, engine_name, runs=3).rows
    )
    assert "is gone; what it had not done is done by the others" in caplog.text
    two.wait_for_workers(2)


def test_work_that_kills_its_workers_ends_the_campaign(two):
    with (
        pytest.raises(EngineError, match="each worker that tried it died"),
        worker_pool(1, dask=two.scheduler_address) as submit,
    ):
        submit(os._exit, 1).result()


@pytest.mark.in_turn
def test_lost_cluster_ends_the_campaign(empty, monkeypatch):
    monkeypatch.setattr(cluster, "NO_WORKERS_TIMEOUT_S", 0.5)
    monkeypatch.setattr(cluster, "WATCH_INTERVAL_S", 0.1)
    address = empty.scheduler_address
    with worker(empty) as process, pytest.raises(EngineError, match="has lost all its workers"):
        _asleep(address, process.kill)
    with worker(empty), pytest.raises(EngineError, match=r"scheduler at tcp://.* is gone"):
        _asleep(address, empty.close)


def _asleep(address, then):
    """Waits for a call that takes long, after something happened."""
    with worker_pool(1, dask=address) as submit:
        call = submit(time.sleep, 60)
        time.sleep(0.5)
        then()
        call.result()


def test_workers_that_would_give_other_results_are_refused(empty, tmp_path):
    address = empty.scheduler_address
    for name in ("harness", "backend"):
        shutil.copytree(ROOT / name, tmp_path / "other" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "other" / "contracts").symlink_to(CONTRACTS)
    (tmp_path / "other" / "harness" / "stakesim" / "evm" / "more.py").write_text("ONE = 1\n")
    (tmp_path / "none" / "stakesim").mkdir(parents=True)
    (tmp_path / "none" / "stakesim" / "__init__.py").write_text("import no_such_module\n")
    other = (tmp_path / "other" / "harness", tmp_path / "other" / "backend")
    for started, message in [
        ({"threads": 2}, "has 2 threads.*--nthreads 1"),
        ({"path": other}, r"has stakesim [0-9a-f]{12}, and this process [0-9a-f]{12}, so that results might differ"),
        (
            {"path": (tmp_path / "none",)},
            r"can't run this version of stakesim \(.*no_such_module.*\): install it there",
        ),
    ]:
        with worker(empty, **started), pytest.raises(EngineError, match=message), worker_pool(1, dask=address):
            pass
        while empty.scheduler.workers:
            time.sleep(0.05)


def test_worker_that_joins_later_is_checked_too(empty):
    address = empty.scheduler_address
    with worker(empty) as first, worker_pool(1, dask=address) as submit:
        assert submit(pow, 2, 3).result() == 8
        with worker(empty, threads=2):
            first.kill()
            with pytest.raises(EngineError, match="has 2 threads"):
                submit(pow, 2, 3).result()


@pytest.mark.parametrize("address", ["nowhere", "http://127.0.0.1:1", "tcp://127.0.0.1:9"])
def test_missing_scheduler_is_one_sentence_and_exit_code_2(address, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 0.3)
    assert _stakesim(monkeypatch, "run", str(SCRIPTED[0]), "--dask", address) == 2
    message = capsys.readouterr().err
    assert f"There is no Dask scheduler at {address}" in message
    assert len(message.strip().splitlines()) == 1


def test_scheduler_without_workers_is_one_sentence(empty, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(EngineError, match=r"has no workers: start some with `dask worker tcp://"):
        run(SCRIPTED, dask=empty.scheduler_address)


def test_missing_dask_is_one_sentence(monkeypatch):
    monkeypatch.delitem(sys.modules, "stakesim.workers.cluster")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NotInstalled, match=r"needs distributed, which is not installed: run `pip install"):
        run(SCRIPTED, dask="tcp://127.0.0.1:9")


def test_dead_process_is_one_sentence():
    with pytest.raises(WorkerDied, match="ended in the middle of its work"), worker_pool(1) as submit:
        submit(os._exit, 1).result()


def test_script_on_standard_input_is_one_sentence():
    script = "from stakesim.workers.pool import worker_pool\nwith worker_pool(2): pass\n"
    done = subprocess.run([sys.executable], input=script, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr.strip().splitlines()[-1].endswith("save it as a file, or ask for one job.")


def _stakesim(monkeypatch, *args):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["stakesim", *args])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_versions_of_a_library_without_a_backend(tmp_path, monkeypatch):
    """As of an installed wheel in a folder without a project."""
    monkeypatch.chdir(tmp_path)
    versions = cluster.versions()
    assert versions["backend"] == "(none)"
    assert versions["stakesim"] == cluster.versions()["stakesim"]


@pytest.mark.parametrize("path", ["", 'path = ["code"]\n'], ids=["in the project's folder", "in another folder"])
def test_version_of_a_backend_follows_the_project(tmp_path, monkeypatch, path):
    code = tmp_path / "code" if path else tmp_path
    (code / "platform_app").mkdir(parents=True)
    (tmp_path / ".venv" / "lib").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(f'[tool.stakesim]\nbackend = "adapter:open_backend"\n{path}')
    monkeypatch.chdir(tmp_path)
    hashes = []
    for file in ("adapter.py", "platform_app/__init__.py", "platform_app/terms.json"):
        (code / file).write_text("{}\n")
        hashes.append(cluster._backend_hash(current_project()))
    assert len(set(hashes)) == len(hashes)
    for file in (tmp_path / ".venv" / "lib" / "installed.py", code / "notes.txt"):
        file.write_text("{}\n")
        assert cluster._backend_hash(current_project()) == hashes[-1]


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    """Also those that wait for work, and those in the middle of it."""
    script = tmp_path / "starts_workers.py"
    script.write_text(
        "import time\n"
        "from stakesim.workers.pool import worker_pool\n"
        'if __name__ == "__main__":\n'
        "    with worker_pool(2) as submit:\n"
        "        [submit(time.sleep, 0).result() for _ in range(4)]\n"
        "        submit(time.sleep, 300)\n"
        '        print("working", flush=True)\n'
        "        time.sleep(300)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "working\n"
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    for process in alive:
        process.kill()
    assert alive == []
