"""`python -m mutants`: what is killed, what survives, what is invalid."""

import ast
import gc
import importlib
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from app.services.codec import Codec, event_stake_codec
from mutants.making import mutants_of, names_in
from mutants.order import Order
from mutants.reach import Reach, uses_in
from mutants.rebind import Modules
from mutants.swap import caches_of, functions_of
from stakesim.paths import checkout

PROJECT = """
[tool.mutants]
root = "code"
package = "shop"
files = ["shop/prices.py"]
money = ["shop/prices.py::total"]
states = ["STATES"]
tests = ["tests"]
options = ["-pno:cacheprovider"]
equivalent = "equivalent.json"
least_limit_s = 2
unshared = []

[tool.pytest.ini_options]
testpaths = ["tests"]
"""
PRICES = '''
"""Prices."""

LIMIT = 10
FEES = {1: 5}
LEAST = FEES[1]


def total(price, seats):
    if seats >= LIMIT:
        raise ValueError("too many")
    return price * seats


def forgotten(amount):
    return amount - 1


def lasting(seats):
    while seats > 0:
        seats -= 1
    return seats
'''
TESTS = """
import pytest
from shop.prices import lasting, total

def test_total():
    assert total(3, 4) == 12

def test_edge():
    assert total(1, 9) == 9
    with pytest.raises(ValueError):
        total(1, 10)

def test_lasting():
    assert lasting(2) == 0
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "code" / "shop").mkdir(parents=True)
    (tmp_path / "code" / "shop" / "__init__.py").touch()
    (tmp_path / "code" / "shop" / "prices.py").write_text(PRICES)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_prices.py").write_text(TESTS)
    return tmp_path


def run(project, *options):
    """The exit code, the output, and the verdicts in the order in which they came."""
    path = os.pathsep.join([str(project / "code"), *sys.path])
    result = subprocess.run(
        [sys.executable, "-m", "mutants", "--out", "out/verdicts.jsonl", *options],
        cwd=project,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    out = project / "out" / "verdicts.jsonl"
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return result.returncode, result.stdout + result.stderr, rows


def status(rows, text):
    (row,) = [row for row in rows if text in row["mutant"]]
    return row["status"]


@pytest.mark.slow
def test_each_mutant_gets_the_verdict_that_it_deserves(project):
    code, output, rows = run(project)
    assert status(rows, "total: return price * seats [18: * -> //]") == "killed"
    assert status(rows, "total: if seats >= LIMIT: [14: >= -> >]") == "killed"
    assert status(rows, "total: raise") == "killed"
    assert status(rows, "LIMIT = 10 [9: 10 -> 11]") == "killed", "it runs when its module is imported"
    assert status(rows, "FEES = {1: 5} [9: 1 -> 2]") == "invalid", "what can't be imported is not killed"
    assert status(rows, "lasting: seats -= 1 [9: seats -= 1 -> pass]") == "killed", "what never ends fails"
    assert status(rows, "forgotten: return amount - 1 [19: - -> +]") == "survived"
    assert code == 1
    assert "survived: shop/prices.py:16 arithmetic (no test reaches it)" in output
    assert "[19: - -> +]" in output
    assert "100.0% of" in output, "nothing survives on lines that move money"


@pytest.mark.slow
def test_what_no_test_finds_survives_until_a_test_does(project):
    tests = project / "tests" / "test_prices.py"
    without_edge = TESTS[: TESTS.index("def test_edge")] + TESTS[TESTS.index("def test_lasting") :]
    tests.write_text(without_edge)
    code, output, rows = run(project, "--money")
    assert all(": total: " in row["mutant"] for row in rows)
    assert status(rows, "[14: >= -> >]") == "survived"
    assert "survived, moves money: shop/prices.py:10 comparison" in output
    assert code == 1
    before = Counter(row["mutant"] for row in rows)

    head = "import pytest\nfrom shop.prices import total\n\n"
    edge = TESTS[TESTS.index("def test_edge") : TESTS.index("def test_lasting")]
    (project / "tests" / "test_edge.py").write_text(head + edge)
    code, output, rows = run(project, "--only", "total")
    assert code == 0, output
    again = Counter(row["mutant"] for row in rows) - before
    assert again == {row["mutant"]: 1 for row in rows if row["status"] == "survived"}, "only survivors are judged again"

    tests.write_text(without_edge.replace("total(3, 4) == 12", "total(3, 4) > 0"))
    code, output, rows = run(project, "--only", "return price * seats [18: * -> //]")
    assert rows[-1]["status"] == "killed", "3 // 4 is not above 0"
    (project / "tests" / "test_edge.py").unlink()
    tests.write_text(without_edge.replace("total(3, 4) == 12", "total(3, 1) > 0"))
    code, output, rows = run(project, "--only", "return price * seats [18: * -> //]")
    assert rows[-1]["status"] == "survived", "the test that killed it does not do so any more"


@pytest.mark.slow
def test_a_test_that_fails_without_a_mutant_kills_none(project):
    unsteady = """
def test_unsteady(tmp_path_factory):
    import pathlib
    from shop.prices import forgotten
    forgotten(1)
    seen = pathlib.Path("seen")
    assert not seen.exists()
    seen.touch()
"""
    (project / "tests" / "test_unsteady.py").write_text(unsteady)
    _, _, rows = run(project, "--only", "forgotten")
    assert {row["status"] for row in rows} == {"survived"}


@pytest.mark.slow
def test_equivalents_need_a_mutant_that_exists(project):
    _, _, rows = run(project, "--only", "forgotten")
    keys = [row["mutant"].removeprefix("shop/prices.py: ") for row in rows]
    listed = [{"file": "shop/prices.py", "mutant": key, "argument": "nobody calls it"} for key in keys]
    (project / "equivalent.json").write_text(json.dumps(listed))
    code, output, _ = run(project, "--only", "forgotten")
    assert code == 0, output
    (project / "equivalent.json").write_text(json.dumps([*listed, listed[0] | {"mutant": "gone"}]))
    code, output, _ = run(project, "--only", "forgotten")
    assert code == 1
    assert "listed as equivalent, and not made: shop/prices.py: gone" in output


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = a - b", ["a + b", "b - a"]),
        ("x = a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("x = a is not None and b", ["a is None and b", "a is not None or b"]),
        ("x = f(1, 2)", ["f(2, 1)", "f(2, 2)", "f(1, 3)"]),
        ("x = f(a, key=b)", ["f(a)"]),
        ("x = f(key=a, other=b)", ["f(other=b)", "f(key=a)"]),
        ("x = row.state == 'due'", ["row.state != 'due'", "row.state == 'requested'"]),
        ("x = Kind.A", ["Kind.B"]),
        ("x = q.where(a, b)", ["q", "q.where(b)", "q.where(a)"]),
        ("x = ~c.is_(None)", ["c.is_(None)", "~c.is_not(None)"]),
        ("x = f('SELECT 1 WHERE a < 2 AND b')", ["f('SELECT 1 WHERE a <= 2 AND b')", "f('SELECT 1 WHERE a < 2 OR b')"]),
        ("x = min(a, b)", ["max(a, b)"]),
        ("x = func.greatest(a, b)", ["func.least(a, b)"]),
        ("x = Decimal('0.5')", ["Decimal('10.5')"]),
        ("log.info('%s', 1 + 2)", []),
        ("assert a < b", []),
        ("x = Literal['due', 1]", []),
        ("x = TypeVar('x', A, B, bound=C)", []),
        ("def f(a: int) -> None:\n    g(a)", ["def f(a: int) -> None:\n    pass"]),
        (
            "def f() -> None:\n    x = a\n    b(x)",
            ["def f() -> None:\n    return\n    x = a\n    b(x)", "def f() -> None:\n    x = a\n    pass"],
        ),
        ("def f() -> int | None:\n    return a", ["def f() -> int | None:\n    return None"]),
        ("def f() -> bool:\n    return a", ["def f() -> bool:\n    return not a"]),
    ],
)
def test_operators_make_these_mutants(tmp_path, code, expected):
    states = "STATES = ('due', 'requested')\n\n\nclass Kind(Enum):\n    A = 1\n    B = 2\n"
    (tmp_path / "states.py").write_text(states)
    (tmp_path / "code.py").write_text(code + "\n")
    names = names_in([tmp_path / "states.py"], ["STATES"])
    made = [mutant.mutant.apply(code) for mutant in mutants_of(tmp_path, "code.py", names, [])]
    wanted = [text if text.startswith("def") else f"x = {text}" for text in expected]
    assert sorted(ast.dump(ast.parse(text)) for text in made) == sorted(ast.dump(ast.parse(text)) for text in wanted)


def test_the_limit_of_seconds_counts_what_tests_compute_and_not_what_they_wait_for():
    reach = Reach(
        seconds={"waits": 90.0, "computes": 2.0, "short": 1.0}, processor={"waits": 0.5, "computes": 2.0, "short": 1.0}
    )
    assert reach.within(["waits", "computes", "short"], 2) == ["waits", "short"]
    assert reach.within(["computes"], 1) == ["computes"], "a mutant gets at least one test"


def test_a_value_is_used_by_what_is_made_of_it(tmp_path):
    (tmp_path / "a.py").write_text("DAY = 2\nKEPT = DAY + 1\n\n\ndef f():\n    return KEPT\n")
    (tmp_path / "b.py").write_text("from a import DAY\n\n\ndef g():\n    return DAY\n")
    assert uses_in(tmp_path, ["a.py", "b.py"])["DAY"] == {("a.py", 6), ("b.py", 5)}


@pytest.mark.parametrize(
    ("code", "line", "steps"),
    [
        ({"a": "X = 1\nY = X + 1\nZ = 3"}, 1, ["a 0", "a 1"]),
        ({"a": "X = 1", "b": "from a import X\n\n\ndef f():\n    return X"}, 1, ["a 0", "b 0"]),
        ({"a": "X = 1\n\n\ndef f():\n    return X\n\n\nY = f()\nZ = [f]"}, 1, ["a 0", "a 2"]),
        ({"a": "def f():\n    return 1\n\n\nX = f()"}, 2, ["a 1"]),
        ({"a": "X = 1", "b": "import a\n\nY = a.X"}, 1, ["a 0", "b 1"]),
        ({"a": "X = 1\n\n\ndef f(x=X):\n    return x"}, 1, None),
        ({"a": "X = 1\n\n\nclass C:\n    x = X"}, 1, None),
        ({"a": "X = 1\nif X:\n    Y = 2"}, 1, None),
        ({"a": "X = {}\nX[1] = 2"}, 2, None),
    ],
)
def test_what_is_made_of_a_value_is_made_again(tmp_path, monkeypatch, code, line, steps):
    for name, text in code.items():
        (tmp_path / f"{name}.py").write_text(text + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    modules = {}
    for name in code:
        monkeypatch.delitem(sys.modules, name, raising=False)
        modules[name] = importlib.import_module(name)
    found = Modules(modules, "a").steps("a", line)
    for name in code:
        del sys.modules[name]
    assert (None if found is None else [f"{step.module} {step.place}" for step in found]) == steps


def test_tests_that_killed_what_is_near_come_first(tmp_path):
    (tmp_path / "a.py").write_text("def f():\n    return 1 + x\n\n\ndef g():\n    return 2 + x\n")
    mutants = list(mutants_of(tmp_path, "a.py", names_in([], []), []))
    of_f, of_g = ([mutant for mutant in mutants if mutant.mutant.function == name] for name in "fg")
    tests = ["t.py::near", "t.py::same_file", "u.py::fast", "u.py::slow", "u.py::slowest"]
    reach = Reach(seconds=dict.fromkeys(tests, 1.0), processor=dict.fromkeys(tests, 1.0))
    reach.seconds |= {"u.py::fast": 0.5, "u.py::slow": 5.0, "u.py::slowest": 9.0}
    order = Order(reach, 4, [(of_f[0], "t.py::near"), (of_g[0], "t.py::same_file")])
    assert order.of(of_f[1], tests) == ["t.py::near", "t.py::same_file", "u.py::fast", "u.py::slow"]
    for _ in range(9):
        order.note(of_f[1], ["t.py::same_file", "u.py::slowest"], {"test": "u.py::slowest"})
    assert order.of(of_f[1], tests) == ["t.py::near", "u.py::fast", "u.py::slowest", "t.py::same_file"]
    assert order.of(of_f[0], tests)[0] == "t.py::near", "what killed the mutant itself"


def test_only_what_reached_changed_code_or_has_changed_is_observed_again(tmp_path):
    tests = ["t.py::one", "u.py::two", "v.py::three"]
    reach = Reach(seconds=dict.fromkeys(tests, 1.0), processor=dict.fromkeys(tests, 1.0))
    reach.tests = {"a.py": {1: ["t.py::one"]}, "b.py": {1: ["u.py::two", "v.py::three"]}}
    reach.files, reach.code = {"t.py": "1", "u.py": "2", "v.py": "3"}, {"a.py": "x", "b.py": "y"}
    reach.helpers = {"conftest.py": "z"}
    reach.write(tmp_path / "reach.json")
    kept = Reach.read(tmp_path / "reach.json", {"conftest.py": "z", "new_helper.py": "n"})
    assert kept.tests == reach.tests
    assert kept.forget_changed(reach.files | {"v.py": "changed"}, {"a.py": "changed", "b.py": "y"}) == ["t.py", "v.py"]
    assert (kept.tests, list(kept.seconds)) == ({"b.py": {1: ["u.py::two"]}}, ["u.py::two"])
    for helpers in ({"conftest.py": "changed"}, {}, {"conftest.py": "z", "more/conftest.py": "n"}):
        assert Reach.read(tmp_path / "reach.json", helpers).seconds == {}


@pytest.mark.slow
def test_functions_and_caches_are_found_also_when_they_are_frozen():
    """`conftest.py` freezes all that is there when the tests are collected."""
    gc.freeze()
    functions, caches = functions_of(checkout() / "backend" / "app"), caches_of("app")
    gc.freeze()
    assert event_stake_codec in caches
    assert Codec.call in functions
