"""Kinds of small faults in Python code, each a function of a node of its syntax tree.

Not mutated: imports, annotations, docstrings, logs, assertions (they tell the type checker what holds) and `with`, as
what a lock prevents is seen only now and then.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from stakesim.gate.mutant import Edit, Span

from mutants.place import Place

ARITHMETIC: Mapping[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
NOT_COMMUTATIVE = (ast.Sub, ast.FloorDiv, ast.Div, ast.Mod)
COMPARISONS: Mapping[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
MISTAKEN = (
    ("min", "max"),
    ("least", "greatest"),
    ("any", "all"),
    ("ROUND_FLOOR", "ROUND_CEILING"),
    ("ROUND_DOWN", "ROUND_UP"),
    ("floor", "ceil"),
    ("is_", "is_not"),
    ("in_", "not_in"),
    ("asc", "desc"),
    ("and_", "or_"),
)
"""Functions and constants, also those of SQLAlchemy, that are mistaken for each other."""
OTHER_NAME = dict(MISTAKEN) | {new: old for old, new in MISTAKEN}
CLAUSES = {"where", "with_for_update", "limit", "order_by", "on_conflict_do_nothing", "distinct", "having", "filter"}
"""Methods of a query without which it is still a query."""
UNORDERED = {"where", "having", "filter", "and_", "or_", "min", "max", "least", "greatest", "compare_digest"}
"""Functions whose arguments have no order."""
SQL = re.compile(r"\b(SELECT|UPDATE|DELETE FROM|INSERT INTO)\b")
SQL_EDGES = tuple(
    (re.compile(old), new)
    for old, new in (
        (r"(?<![<>=!-])<(?![=>])", "<="),
        (r"<=", "<"),
        (r"(?<![<>=!-])>(?!=)", ">="),
        (r">=", ">"),
        (r"\bAND\b", "OR"),
        (r"\bOR\b", "AND"),
        (r"\bIS NULL\b", "IS NOT NULL"),
        (r"\bIS NOT NULL\b", "IS NULL"),
        (r"\bNOT (?=EXISTS|IN\b)", ""),
        (r"\bFOR UPDATE\b", ""),
    )
)
NUMERAL = re.compile(r"\d+(\.\d+)?")


def arithmetic(node: ast.AST, place: Place) -> Iterator[Edit]:
    """Another arithmetic or bitwise operator."""
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC and not _is_text(left, right):
            yield place.edit_between("arithmetic", left, right, *ARITHMETIC[type(op)])
        case ast.AugAssign(target=left, op=op, value=right) if type(op) in ARITHMETIC and not _is_text(right):
            yield place.edit_between("arithmetic", left, right, *ARITHMETIC[type(op)])


def swapped(node: ast.AST, place: Place) -> Iterator[Edit]:
    """Swapped operands of what does not commute, and of two neighbouring arguments of a kind."""
    match node:
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, NOT_COMMUTATIVE) and _differ(left, right):
            sign = ARITHMETIC[type(op)][0]
            yield place.edit("swapped", node, f"({place.code(right)}) {sign} ({place.code(left)})")
        case ast.Call(func=called, args=args) if ast.unparse(called).rpartition(".")[2] not in UNORDERED:
            for first, second in pairwise(args):
                if (
                    type(first) is type(second)
                    and not isinstance(first, ast.Starred)
                    and ast.dump(first) != ast.dump(second)
                ):
                    span = Span(place.source.span(first).start, place.source.span(second).end)
                    yield Edit("swapped", span, f"{place.code(second)}, {place.code(first)}")


def comparison(node: ast.AST, place: Place) -> Iterator[Edit]:
    """The other side of an edge, or the opposite."""
    if isinstance(node, ast.Compare):
        for op, (left, right) in zip(node.ops, pairwise([node.left, *node.comparators]), strict=True):
            yield place.edit_between("comparison", left, right, *COMPARISONS[type(op)])


def boolean(node: ast.AST, place: Place) -> Iterator[Edit]:
    """`and` for `or`, a lost `not`, the opposite of a condition or of a returned truth value."""
    match node:
        case ast.BoolOp(op=op, values=values):
            old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
            for left, right in pairwise(values):
                yield place.edit_between("boolean", left, right, old, new)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield place.edit("boolean", node, place.code(operand))
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            yield place.edit("query", node, place.code(operand))
    tests = [node.test] if isinstance(node, ast.If | ast.While | ast.IfExp) else getattr(node, "ifs", [])
    if isinstance(node, ast.Return) and node.value and place.function and _annotation(place) == "bool":
        tests = [node.value]
    for test in tests:
        if isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr):
            yield place.edit("boolean", test, f"(not ({place.code(test)}))")


def constant(node: ast.AST, place: Place) -> Iterator[Edit]:
    """Another number, truth value, or number in a string."""
    match node:
        case ast.Constant(value=bool(value)):
            yield place.edit("constant", node, str(not value))
        case ast.Constant(value=int(value) | float(value)):
            yield place.edit("constant", node, str(value + 1))
        case ast.Constant(value=str(value)) if NUMERAL.fullmatch(value) and isinstance(place.parent, ast.Call):
            yield place.edit("constant", node, f'"1{value}"')


def state(node: ast.AST, place: Place) -> Iterator[Edit]:
    """Another state: a string, or a member of an enumeration."""
    match node:
        case ast.Constant(value=str(value)) if value in place.names.next_state:
            yield place.edit("state", node, f'"{place.names.next_state[value]}"')
        case ast.Attribute(value=ast.Name(id=name), attr=member) if member in place.names.enumerations.get(name, ()):
            members = place.names.enumerations[name]
            yield place.edit("state", node, f"{name}.{members[(members.index(member) + 1) % len(members)]}")


def query(node: ast.AST, place: Place) -> Iterator[Edit]:
    """A query without one of its clauses or conditions, and another edge in SQL text."""
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args) if name in CLAUSES:
            yield place.edit("query", node, place.code(value))
            for argument in args if len(args) > 1 else ():
                others = ", ".join(place.code(other) for other in args if other is not argument)
                span = Span(place.source.span(args[0]).start, place.source.span(args[-1]).end)
                yield Edit("query", span, others)
        case ast.Constant(value=str(value)) if SQL.search(value):
            text = place.code(node)
            for pattern, new in SQL_EDGES:
                for match in pattern.finditer(text):
                    yield place.edit("query", node, text[: match.start()] + new + text[match.end() :])


def name(node: ast.AST, place: Place) -> Iterator[Edit]:
    """Another function or constant, that is mistaken for this one."""
    match node:
        case ast.Name(id=old, ctx=ast.Load()) if old in OTHER_NAME:
            yield place.edit("name", node, OTHER_NAME[old])
        case ast.Attribute(value=value, attr=old) if old in OTHER_NAME:
            yield place.edit("name", node, f"{place.code(value)}.{OTHER_NAME[old]}")


def argument(node: ast.AST, place: Place) -> Iterator[Edit]:
    """A call without one of its named arguments, so with the default."""
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            is_inferred = keyword.arg == "type_" and isinstance(place.parent, ast.Compare)
            if keyword.arg and not is_inferred:  # SQLAlchemy takes the type of what it is compared with
                start, end = place.source.span(keyword.value)
                found = re.search(rb"(,\s*|\()" + keyword.arg.encode() + rb"\s*=\s*$", place.source.raw[:start])
                if found:  # the value is not in brackets of its own
                    is_first = found[1] == b"("
                    after = re.match(rb"\s*,\s*", place.source.raw[end:]) if is_first else None
                    yield Edit("argument", Span(found.start() + is_first, end + (after.end() if after else 0)), "")


def statement(node: ast.AST, place: Place) -> Iterator[Edit]:
    """A statement that is left out, or a loop that ends early."""
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise() | ast.Delete():
            yield place.edit("statement", node, "pass")
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield place.edit("statement", node, "pass")
        case ast.Continue():
            yield place.edit("statement", node, "break")
        case ast.Break():
            yield place.edit("statement", node, "continue")


def early_return(node: ast.AST, place: Place) -> Iterator[Edit]:
    """A function that returns at once, or nothing instead of something."""
    match node:
        case ast.FunctionDef(body=body, returns=ast.Constant(value=None)) if node.name != "__init__":
            first = body[1] if len(body) > 1 and ast.get_docstring(node) is not None else body[0]
            start = place.source.span(first).start
            if len(body) > body.index(first) + 1:  # one statement alone is left out by another operator
                yield Edit("early return", Span(start, start), "return\n" + " " * first.col_offset)
        case ast.Return(value=ast.expr() as value) if "None" in _annotation(place) and not _is_none(value):
            yield place.edit("early return", value, "None")


OPERATORS: tuple[Callable[[ast.AST, Place], Iterator[Edit]], ...] = (
    arithmetic,
    swapped,
    comparison,
    boolean,
    constant,
    state,
    query,
    name,
    argument,
    statement,
    early_return,
)


def _is_text(*nodes: ast.expr) -> bool:
    return any(
        isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        for node in nodes
    )


def _differ(left: ast.expr, right: ast.expr) -> bool:
    return not _is_text(left) and ast.dump(left) != ast.dump(right)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _annotation(place: Place) -> str:
    return ast.unparse(place.function.returns) if place.function and place.function.returns else ""
