"""The rules of branch predicates one by one: grammar, the table of what each construct means, limits."""

import ast
import builtins
from typing import Any

import pytest

from doubleweave.errors import PredicateSyntaxError
from doubleweave.models.predicates import MAX_DEPTH, MAX_LENGTH, evaluate_predicate

CONTEXT: dict[str, Any] = {
    "x": 3,
    "flag": False,
    "name": "alpha",
    "data": {"k": [10, 20, 30], (1, 2): "tuple key"},
    "pair": ("p", "q"),
    "letters": {"a", "b"},
    "True": 0,
    "False": 1,
    "None": "something",
}


def outcome(predicate: str, context: dict[str, Any] | None = None) -> bool | str:
    """Return the truth of a predicate, or why it has none."""
    try:
        return evaluate_predicate(predicate, CONTEXT if context is None else context)
    except PredicateSyntaxError as error:
        return error.detail


# --- grammar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("x == 3# three", True),
        ("x == 3  \t ", True),
        ("'al' 'pha' == name", True),
        ("1 or 1 and 0", True),
        ("not 0 == 0", False),
        ("not 1 or 1", True),
        ("-1 < 0 and 1 in [1] or 0", True),
        ("-data['k'][0] == -10", True),
    ],
)
def test_pr_1_tokens_and_precedence_are_python_s(predicate: str, expected: bool) -> None:
    assert outcome(predicate) is expected
    assert bool(eval(predicate, {}, dict(CONTEXT))) is expected


@pytest.mark.parametrize("predicate", [" x", "\tx", "  x == 3"])
def test_pr_1_a_leading_blank_is_a_syntax_error(predicate: str) -> None:
    assert outcome(predicate) == "syntax error: unexpected indent"


ALLOWED = {
    *("Expression", "BoolOp", "And", "Or", "UnaryOp", "Not", "USub", "UAdd", "Compare", "Name", "Load", "Constant"),
    *("Subscript", "Tuple", "List", "Set", "Eq", "NotEq", "Lt", "LtE", "Gt", "GtE", "In", "NotIn"),
}
REFUSED = {
    "Call": "f()",
    "Attribute": "x.real",
    "BinOp": "x + 1",
    "Lambda": "lambda: 1",
    "IfExp": "1 if x else 2",
    "Slice": "data['k'][0:1]",
    "Dict": "{'a': 1}",
    "Starred": "[*pair]",
    "JoinedStr": "f'{x}'",
    "NamedExpr": "(y := 1)",
    "Await": "await x",
    "Yield": "(yield)",
    "YieldFrom": "(yield from x)",
    "ListComp": "[i for i in pair]",
    "SetComp": "{i for i in pair}",
    "DictComp": "{i: i for i in pair}",
    "GeneratorExp": "(i for i in pair)",
    "Is": "x is x",
    "IsNot": "x is not x",
    "Invert": "~x",
}
EVERY_ALLOWED_NODE = [
    "not x and -x < +x or x <= 3 and x > 2",
    "x >= 3 == True != ... and x in (1, 3) and x not in [1]",
    "{1, x} and data['k']",
]
# Parts of refused nodes, and classes that the parser no longer makes.
NEVER_MET = {"FormattedValue", "Interpolation", "TemplateStr", "Num", "Str", "Bytes", "NameConstant", "Ellipsis"}


def node_names(predicate: str) -> set[str]:
    return {type(node).__name__ for node in ast.walk(ast.parse(predicate, mode="eval"))}


def test_pr_2_the_allowed_nodes_are_these_and_no_others() -> None:
    assert set().union(*map(node_names, EVERY_ALLOWED_NODE)) == ALLOWED
    assert [outcome(predicate) for predicate in EVERY_ALLOWED_NODE] == [True, False, True]
    operators = {cls.__name__ for base in (ast.boolop, ast.unaryop, ast.cmpop) for cls in base.__subclasses__()}
    expressions = {cls.__name__ for cls in ast.expr.__subclasses__()}
    assert (operators | expressions) - NEVER_MET - ALLOWED == REFUSED.keys()


@pytest.mark.parametrize(("node", "predicate"), REFUSED.items(), ids=REFUSED)
def test_pr_3_anything_else_is_refused_by_the_name_of_its_node(node: str, predicate: str) -> None:
    assert outcome(predicate) == f"{node} is not allowed in a predicate"


@pytest.mark.parametrize(("node", "predicate"), REFUSED.items(), ids=REFUSED)
def test_pr_4_a_refusal_happens_when_evaluation_reaches_the_node(node: str, predicate: str) -> None:
    assert outcome(f"0 and ({predicate})") is False
    assert outcome(f"1 or ({predicate})") is True
    assert outcome(f"1 and ({predicate})") == f"{node} is not allowed in a predicate"


def test_nothing_of_a_predicate_is_compiled_or_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("called")

    monkeypatch.setattr(builtins, "eval", refuse)
    monkeypatch.setattr(builtins, "exec", refuse)
    assert outcome("x == 3 and 'unseen before' != name") is True


# --- semantics --------------------------------------------------------------------------------------------------------

FAILED = "subscript lookup failed: "
MEANING: dict[str, list[tuple[str, bool | str]]] = {
    "name": [
        ("x", True),
        ("flag", False),
        ("True", True),
        ("False", False),
        ("None", False),
        ("absent", "name 'absent' is not in the execution context"),
        ("k", "name 'k' is not in the execution context"),
    ],
    "constant names in context": [("True == 1", True), ("False == 0", True), ("None == 'something'", False)],
    "subscript": [
        ("data['k'][0] == 10", True),
        ("data['k'][-1] == 30", True),
        ("[7, 8][1] == 8", True),
        ("pair[1] == 'q'", True),
        ("name[0] == 'a' and name[-1] == 'a'", True),
        ("data['gone']", f"{FAILED}KeyError: 'gone'"),
        ("data['k'][3]", f"{FAILED}IndexError: list index out of range"),
        ("x[0]", f"{FAILED}TypeError: 'int' object is not subscriptable"),
    ],
    "tuple and list literal": [
        ("(1, 2) == [1, 2]", True),
        ("pair == ('p', 'q')", False),
        ("x in (1, 3) and x in [1, 3]", True),
        ("data[(1, 2)]", f"{FAILED}TypeError: "),
    ],
    "set literal": [
        ("{1, 2, 1} == {2, 1}", True),
        ("letters == {'b', 'a'}", True),
        ("{[1]}", "set of 'list' failed: TypeError: "),
    ],
    "comparison chain": [
        ("1 < x < 5", True),
        ("1 < x < 3", False),
        ("5 < x < absent", False),
        ("1 < x < absent", "name 'absent' is not in the execution context"),
    ],
    "== and !=": [
        ("1 == '1'", False),
        ("1 == 1.0", True),
        ("True == 1", True),
        ("1 != '1'", True),
        ("1 != 1.0", False),
    ],
    "in and not in": [
        ("20 in data['k']", True),
        ("'p' in pair", True),
        ("'a' in letters", True),
        ("'k' in data", True),
        ("'lph' in name", True),
        ("20 not in data['k'] or 'p' not in pair or 'a' not in letters or 'k' not in data or 'l' not in name", False),
    ],
    "and and or": [
        ("(x and name) == 'alpha'", True),
        ("(flag and name) == flag", True),
        ("(flag or name) == 'alpha'", True),
        ("(x or name) == 3", True),
        ("(0 or '' or []) == []", True),
    ],
    "unary + and -": [
        ("-x == -3", True),
        ("+True == 1 and - -x == 3", True),
        ("-name", "operator '-' failed for 'str'"),
    ],
    "result": [("x", True), ("''", False), ("()", False), ("...", True), ("0.0", False), ("'no'", True)],
}


@pytest.mark.parametrize("cases", MEANING.values(), ids=MEANING)
def test_a_construct_means_what_the_table_says(cases: list[tuple[str, bool | str]]) -> None:
    for predicate, expected in cases:
        found = outcome(predicate)
        if isinstance(expected, str):
            assert isinstance(found, str), predicate
            assert found.startswith(expected), predicate
        else:
            assert found is expected, predicate


def test_each_middle_operand_of_a_comparison_chain_is_evaluated_once() -> None:
    seen: list[str] = []

    class Watched(dict[str, int]):
        def __getitem__(self, key: str) -> int:
            seen.append(key)
            return super().__getitem__(key)

    assert evaluate_predicate("a < b < c > d", Watched(a=1, b=2, c=3, d=4)) is False
    assert seen == ["a", "b", "c", "d"]
    seen.clear()
    assert evaluate_predicate("b < a < c", Watched(a=1, b=2, c=3)) is False
    assert seen == ["b", "a"]


# --- errors and limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicate", "cause"),
    [
        ("", SyntaxError),
        ("x = 1", SyntaxError),
        ("import os", SyntaxError),
        ("(x", SyntaxError),
        ("x\0", (SyntaxError, ValueError)),
        ("(" * 250 + "1" + ")" * 250, SyntaxError),
    ],
    ids=["empty", "assignment", "statement", "unbalanced", "NUL", "parentheses"],
)
def test_pr_5_a_failure_to_parse_says_so_and_keeps_the_cause(predicate: str, cause: Any) -> None:
    for _ in range(2):
        with pytest.raises(PredicateSyntaxError) as caught:
            evaluate_predicate(predicate, {"x": 1})
        assert caught.value.detail.startswith("syntax error")
        assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize(
    ("predicate", "fragments"),
    [
        ("1 < 'a'", ["'<'", "'int'", "'str'"]),
        ("x in 5", ["'in'", "'int'"]),
        ("-'a'", ["'-'", "'str'"]),
        ("{[1]}", ["set", "'list'"]),
    ],
)
def test_pr_6_a_type_error_is_converted_with_the_operator_and_the_types(predicate: str, fragments: list[str]) -> None:
    with pytest.raises(PredicateSyntaxError) as caught:
        evaluate_predicate(predicate, CONTEXT)
    assert [fragment for fragment in fragments if fragment not in caught.value.detail] == []
    assert type(caught.value.__cause__) is TypeError


def test_pr_7_the_limits_are_10_000_characters_and_a_depth_of_400() -> None:
    assert (MAX_LENGTH, MAX_DEPTH) == (10_000, 400)
    assert outcome("x" + " " * 9_999) is True
    assert outcome("x" + " " * 10_000) == "longer than the limit of 10000 characters"
    assert outcome("not " * 399 + "x") is False
    assert outcome("not " * 400 + "x") == "nested deeper than the limit of 400 levels"
    assert outcome("not " * 2400 + "x") == "nested deeper than the limit of 400 levels"
    assert outcome(" or ".join(["flag"] * 1000)) is False
    assert outcome(" and ".join(["x"] * 1000)) is True
    assert outcome("(" * 90 + "x" + ")" * 90) is True
    assert outcome("-" * 300 + "x == 3") is True


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("flag and data['gone'] == 1", False),
        ("x and data['gone'] == 1", f"{FAILED}KeyError: 'gone'"),
        ("0 and absent", False),
        ("1 or absent", True),
        ("absent or 1", "name 'absent' is not in the execution context"),
        ("absent and 0", "name 'absent' is not in the execution context"),
        ("0 and absent or x", True),
        ("not (flag and absent)", True),
    ],
)
def test_pr_8_the_right_operand_is_not_evaluated_when_the_left_decides(predicate: str, expected: bool | str) -> None:
    assert outcome(predicate) == expected


@pytest.mark.parametrize("predicate", ["data['k'] == [10, 20, 30]", "x in pair", "1 < 'a'", "absent", "x ="])
def test_pr_10_evaluated_again_a_text_gives_the_same_and_errors_are_raised_each_time(predicate: str) -> None:
    first, again = outcome(predicate), outcome(predicate)
    assert first == again
    other = {**CONTEXT, "data": {"k": 0}, "pair": (3,), "absent": 1}
    expected = {"data['k'] == [10, 20, 30]": False, "x in pair": True, "absent": True}
    assert outcome(predicate, other) == expected.get(predicate, first)
    assert outcome(predicate) == first
