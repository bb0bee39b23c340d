"""Files that are not valid, or that PyYAML can't read: file, line and problem in a sentence, never a traceback."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stakesim.economics.sweep_file import SweepFile
from stakesim.faults.episode_script import EpisodeScript
from stakesim.generate.profiles import Profile
from stakesim.population.population import Population
from stakesim.prices.series import read_closes
from stakesim.project import Project
from stakesim.scenario.scenario import Scenario, dump, load, loads
from stakesim.schema.errors import InputError
from stakesim.schema.text_file import MAX_SIZE

GOOD = """\
name: it
story: One.
actors:
  host: {}
actions:
  - {do: create_run, run: gig, by: host, price_inr: "20000", seats: 4, starts: 7d}
"""


def problems(folder: Path, content: bytes | str) -> list[str]:
    """What is told of the file, without its path, which each line begins with."""
    file = folder / "it.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as refused:
        load(file)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


def refusal(folder: Path, content: bytes | str) -> str:
    (only,) = problems(folder, content)
    return only


def story(content: bytes) -> bytes:
    return GOOD.encode().replace(b"One.", content)


NESTED = "is not YAML: it is nested more than 50 deep; correct it there or just above"
BAD_FILES = {
    "latin-1": (story(b"caf\xe9"), "2: is not UTF-8; save it in that encoding"),
    "UTF-16": (GOOD.encode("utf-16"), "1: is UTF-16 and not UTF-8; save it in that encoding"),
    "UTF-32": (GOOD.encode("utf-32"), "1: is UTF-32 and not UTF-8; save it in that encoding"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "1: has a zero byte, as no text in UTF-8 has; save it"),
    "zero byte": (story(b"a\x00b"), "2: has a zero byte, as no text in UTF-8 has; save it in that encoding"),
    "binary": (b"\x89PNG\r\n\x1a\n" + os.urandom(999), "1: "),
    "control character": (story(b"a\x01b"), "2: YAML has no character U+0001; remove it"),
    "int": (story(b"!!int x"), "2: is not YAML: 'x' can't be read as int; correct it there or just above"),
    "float": (story(b"!!float x"), "2: is not YAML: 'x' can't be read as float; correct it there or just above"),
    "bool": (story(b"!!bool x"), "2: is not YAML: 'x' can't be read as bool; correct it there or just above"),
    "date": (story(b"!!timestamp x"), "2: is not YAML: 'x' can't be read as timestamp; correct it there or just above"),
    "digits": (story(b"9" * 5000), "2: is not YAML: a text of 5000 characters can't be read as int; correct it there"),
    "alias of itself": (story(b"&a [*a]"), "2: an alias (*name) is inside the value it stands for; write it out"),
    "deep brackets": (story(b"[" * 5000 + b"]" * 5000), f"2: {NESTED}"),
    "deep dashes": (GOOD.encode() + b"origin:\n  x:\n    " + b"- " * 5000, f"9: {NESTED}"),
    "deep fields": (GOOD + "origin:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 600)), f"57: {NESTED}"),
    "list as name": (story(b"{? [a] : b}"), "2: the name of a field is a list or a mapping; write text"),
    "tagged list as name": (story(b"{? !!str [a] : b}"), "2: the name of a field is a list or a mapping; write text"),
    "tabs": (GOOD.replace("  -", "\t-"), "6: is not YAML: found character '\\t' that cannot start any token"),
    "two documents": (GOOD + "---\n" + GOOD, "7: is not YAML: but found another document"),
    "empty": (b"", "1: is not a mapping of fields; begin with `name: ...`"),
    "10 MB": (
        GOOD + "# more\n" * 1_500_000,
        f"1: has 10,500,132 bytes, and a scenario file at most {MAX_SIZE:,}; split",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_FILES)
def test_an_invalid_file_is_one_sentence_with_the_line_within_a_second(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    for _ in range(3):  # what else the machine does may slow one of them down
        began = time.process_time()
        assert refusal(tmp_path, content).startswith(message)
        seconds = time.process_time() - began
        if seconds < 1:
            break
    assert seconds < 1


@pytest.mark.parametrize("value", ["[{}]", "{{{}}}"], ids=["lists", "mappings"])
def test_aliases_of_aliases_are_not_expanded(tmp_path: Path, value: str) -> None:
    def level(n: int) -> str:
        items = [f"*a{n - 1}" if "[" in value else f"k{i}: *a{n - 1}" for i in range(10)]
        return f"  a{n}: &a{n} {value.format(', '.join(items))}\n"

    message = refusal(tmp_path, GOOD + "origin:\n  a0: &a0 x\n" + "".join(map(level, range(1, 12))))
    line, _, text = message.partition(": ")
    assert text.startswith("its aliases (*name) stand for ")
    assert int(line) == 14  # of the first value that is too large


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "it.yaml")
    for read in (load, lambda file: read_closes(file.relative_to("/"))):
        with pytest.raises(InputError):
            read(tmp_path / "it.yaml")


def test_a_file_without_end_is_not_read() -> None:
    with pytest.raises(InputError, match="/dev/zero: is no ordinary file; give the path of a scenario file"):
        load("/dev/zero")


def test_a_series_of_prices_is_read_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "it.csv").write_bytes("date,close\n2024-01-01,1\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"it\.csv:1: is UTF-16"):
        read_closes(tmp_path / "it.csv")


def test_a_series_counts_from_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an ordinary folder it is absolute afterwards; in a folder of scenarios it counts from that folder."""
    (tmp_path / "mine.csv").write_text("date,close\n2024-01-01,100\n2024-01-02,110\n")
    (tmp_path / "it.yaml").write_text(GOOD + "price: {path: series, file: mine.csv}\n")
    scenario = load(os.path.relpath(tmp_path / "it.yaml"))
    assert scenario.price.model_dump()["file"] == str(tmp_path / "mine.csv")
    assert loads(dump(scenario)) == scenario
    monkeypatch.setattr("stakesim.prices.series.current_project", lambda: Project(tmp_path, scenarios=tmp_path))
    kept = load(tmp_path / "it.yaml")
    assert kept.price.model_dump()["file"] == "mine.csv"
    assert int(kept.rate_path()(0)) == 100


def test_files_that_people_make_and_that_are_valid(tmp_path: Path) -> None:
    file = tmp_path / "it.yaml"
    texts = (
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("host: {}", "host: &who {}\n  guest: *who"),
    )
    for text in texts:
        file.write_bytes(text.encode())
        assert "host" in load(file).actors


# All problems of a file


def test_every_problem_of_a_file_is_told_in_its_order(tmp_path: Path) -> None:
    text = GOOD.replace("seats: 4, starts: 7d", "seats: four, starts: soon") + "colour: red\n"
    assert [line.partition(";")[0] for line in problems(tmp_path, text)] == [
        "6: actions[0].seats: is 'four'",
        "6: actions[0].starts: 'soon' is not a time",
        "7: colour: is no field here",
    ]


def test_every_contradiction_of_a_file_is_told(tmp_path: Path) -> None:
    text = (
        GOOD.replace("by: host", "at: 2d, by: hots")
        + "  - {at: 1d, do: book, booking: a, run: gug, by: host, seats: 1}\n"
    )
    assert problems(tmp_path, text + "received: {hots: 1}\n") == [
        "6: actions[0].by: there is no actor 'hots'; did you mean 'host'?",
        "7: actions[1].at: 1d is before 2d, when actions[0] happens; write the actions in the order of their times",
        "7: actions[1].run: there is no run 'gug'; did you mean 'gig'?",
        "8: received.hots: there is no actor 'hots'; did you mean 'host'?",
    ]


def test_every_field_that_is_given_twice_is_told(tmp_path: Path) -> None:
    text = GOOD + "story: Two.\nname: it\n"
    assert problems(tmp_path, text) == ["7: story: is given twice; keep one", "8: name: is given twice; keep one"]


def test_a_file_full_of_problems_does_not_flood_the_terminal(tmp_path: Path) -> None:
    began = time.process_time()
    told = problems(tmp_path, GOOD + "".join(f"wrong{n}: 1\n" for n in range(500)))
    assert time.process_time() - began < 1
    assert len(told) == 21
    assert told[-1] == "27: and 480 problems from here on"


@pytest.mark.parametrize(("first", "second"), [("2d", "1d"), ("1d", None), ("7d", "1d")])
def test_a_time_that_goes_backwards_is_told(tmp_path: Path, first: str, second: str | None) -> None:
    wait = f"  - {{at: {second}, do: wait}}\n" if second else "  - {do: wait}\n  - {at: 1d, do: wait}\n"
    assert " is before " in refusal(tmp_path, GOOD.replace("{do", f"{{at: {first}, do") + wait)


def test_actions_may_have_the_same_time(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(GOOD.replace("{do", "{at: 1d, do") + "  - {at: 1d, do: wait}\n" * 3)
    assert [at for at, _ in load(tmp_path / "it.yaml").timeline()] == [86400, 86401, 86402, 86403]


def test_nobody_receives_less_than_nothing(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD + "received: {host: -1}\n")
    assert message == "7: received.host: is -1; write 0 or more, for nobody gets less than nothing"


def test_a_file_without_actions_does_nothing(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: it\nstory: None.\nactors: {}\nactions: []\n")
    assert message == "4: actions: is empty; write at least one, as a scenario of none does nothing"


@pytest.mark.parametrize("seats", ["1000000000", "9" * 99])
def test_more_seats_than_anybody_could_pay_for_are_a_bad_scenario(tmp_path: Path, seats: str) -> None:
    message = refusal(tmp_path, GOOD.replace("seats: 4", f"seats: {seats}"))
    assert message == f"6: actions[0].seats: is {seats}; write at most 1000000"


# Numbers

NUMBERS = ("٤", "４", "1٤", "²", "10_000", "1e4", "1E4", "0x10", "0o10", "0b1", "1.5e3")
FIELDS = {
    "price": 'price_inr: "{}"',
    "price without quotes": "price_inr: {}",
    "seats": "seats: {}",
    "time": "starts: {}",
    "time with a unit": "starts: {}h",
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", FIELDS)
def test_numbers_are_written_in_the_digits_0_to_9(tmp_path: Path, field: str, number: str) -> None:
    old = {"p": 'price_inr: "20000"', "s": "seats: 4", "t": "starts: 7d"}[field[0]]
    message = refusal(tmp_path, GOOD.replace(old, FIELDS[field].format(number)))
    assert message.startswith("6: actions[0].")
    assert "; " in message


@pytest.mark.parametrize("number", [*NUMBERS, "4.0"])
def test_so_are_amounts_in_wei_and_seeds(tmp_path: Path, number: str) -> None:
    for text in (
        f'received: {{host: "{number}"}}',
        f"received: {{host: {number}}}",
        f"seed: {number}",
        "terms: {fee_bps: " + number + "}",
    ):
        assert refusal(tmp_path, f"{GOOD}{text}\n").startswith("7: ")


@pytest.mark.parametrize("model", [Scenario, Profile, Population, SweepFile, EpisodeScript])
def test_no_number_of_a_file_is_read_from_text_by_pydantic(model: Any) -> None:
    """Pydantic takes underscores and the digits of any script, unless a field is strict."""
    assert list(lax_numbers(model.__pydantic_core_schema__)) == []


def lax_numbers(schema: Any, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    if isinstance(schema, list | tuple):
        for index, item in enumerate(schema):
            yield from lax_numbers(item, (*path, index))
    if not isinstance(schema, dict) or schema.get("type") == "function-before":  # the project's own parsers
        return
    if schema.get("type") in ("int", "float") and not schema.get("strict"):
        yield path
    for name, part in schema.items():
        if name not in ("metadata", "serialization"):
            yield from lax_numbers(part, (*path, name))
