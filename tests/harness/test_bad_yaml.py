"""Files that are not valid YAML, or that PyYAML can't read: one sentence with file and line, never a traceback."""

from pathlib import Path

import pytest
from stakesim.scenario.scenario import ScenarioError, load

GOOD = """\
name: it
story: One.
actors:
  host: {}
actions:
  - {do: create_run, run: gig, by: host, price_inr: "20000", seats: 4, starts: 7d}
"""


def refusal(folder: Path, content: bytes) -> str:
    file = folder / "it.yaml"
    file.write_bytes(content)
    with pytest.raises(ScenarioError) as refused:
        load(file)
    message = str(refused.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message.removeprefix(f"{file}, ")


@pytest.mark.parametrize(
    ("story", "message"),
    [
        (b"caf\xe9", "line 2: is not UTF-8; save it in that encoding"),
        (b"a\x00b", "line 2: YAML has no character U+0000; remove it"),
        (b"!!int x", "line 2: is not YAML: 'x' can't be read as int; correct it there or just above"),
        (b"!!float x", "line 2: is not YAML: 'x' can't be read as float; correct it there or just above"),
        (b"!!bool x", "line 2: is not YAML: 'x' can't be read as bool; correct it there or just above"),
        (b"!!timestamp x", "line 2: is not YAML: 'x' can't be read as timestamp; correct it there or just above"),
        (b"9" * 5000, "line 2: is not YAML: a text of 5000 characters can't be read as int; correct it there or"),
        (b"&a [*a]", "line 2: an alias (*name) is inside the value it stands for; write it out"),
        (
            b"[" * 3000 + b"]" * 3000,
            "line 2: is not YAML: it is nested more than 50 deep; correct it there or just above",
        ),
        (b"{? [a] : b}", "line 2: the name of a field is a list or a mapping; write text"),
        (b"{? !!str [a] : b}", "line 2: the name of a field is a list or a mapping; write text"),
    ],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_invalid_yaml_is_one_sentence_with_the_line(tmp_path: Path, story: bytes, message: str) -> None:
    assert refusal(tmp_path, GOOD.encode().replace(b"One.", story)).startswith(message)


def test_aliases_of_aliases_are_not_expanded(tmp_path: Path) -> None:
    levels = [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)]
    message = refusal(tmp_path, (GOOD + "origin:\n  a0: &a0 x\n" + "".join(levels)).encode())
    assert message.startswith("line 1: its aliases (*name) stand for ")


def test_an_alias_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(GOOD.replace("  host: {}", "  host: &who {}\n  guest: *who"))
    assert load(tmp_path / "it.yaml").actors.keys() == {"host", "guest"}


def test_nobody_receives_less_than_nothing(tmp_path: Path) -> None:
    message = refusal(tmp_path, (GOOD + "received: {host: -1}\n").encode())
    assert message == "line 7, received.host: is -1; write 0 or more, for nobody gets less than nothing"


def test_a_file_without_actions_does_nothing(tmp_path: Path) -> None:
    message = refusal(tmp_path, b"name: it\nstory: None.\nactors: {}\nactions: []\n")
    assert message == "line 4, actions: is empty; write at least one, as a scenario of none does nothing"
