"""Comments and imports of a Solidity file are found as the compiler finds them."""

import pytest
from stakesim.evm.solidity_text import imports, without_comments


def test_comments_are_blanks_and_texts_stay():
    source = """a; // slither-disable-next-line x
/// @custom:security non-reentrant
b = "// no \\" comment /*"; /* two
lines */ c = 'it // is'; d / e;"""
    stripped = without_comments(source)
    assert " ".join(stripped.split()) == """a; b = "// no \\" comment /*"; c = 'it // is'; d / e;"""
    assert [line.strip()[:3] for line in stripped.splitlines()] == ["a;", "", "b =", "c ="]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('import {A} from "./a.sol"; import {B} from "./b.sol";', ["./a.sol", "./b.sol"]),
        ("import './a.sol';\n  import * as B from \"b/b.sol\";", ["./a.sol", "b/b.sol"]),
        ('import {\n    A, // "x"; the first\n    B\n} from "./a.sol";', ["./a.sol"]),
        ('import/* "./x.sol"; */"./a.sol";', ["./a.sol"]),
        ('/* Old:\nimport "./gone.sol";\n*/\n// import "./gone.sol";\n', []),
        ("""string a = 'import "./gone.sol";'; string b = "/*"; import "./a.sol"; string c = "*/";""", ["./a.sol"]),
        ('string a = "\\"import \'./gone.sol\';"; uint important; f("x");', []),
        ('// ends here\u2028import "./a.sol";', ["./a.sol"]),
    ],
)
def test_imports_are_found_wherever_they_are_on_a_line_and_not_in_comments_or_texts(source, expected):
    assert imports(source) == expected
