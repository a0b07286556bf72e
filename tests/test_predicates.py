"""Branch predicates: what they mean and what they refuse."""

import copy
import inspect
import sys
import time
import warnings
from collections import defaultdict
from typing import Any

import pytest

from doubleweave.errors import PredicateSyntaxError
from doubleweave.models.predicates import MAX_DEPTH, MAX_LENGTH, evaluate_predicate, predicate_names

CONTEXT: dict[str, Any] = {
    "x": 3,
    "name": "alpha",
    "flag": False,
    "empty": {},
    "data": {"k": {"deep": [1, 2, 3]}, "n": None, 1: "one"},
    "items": ["a", "b", "c"],
    "pair": (1, 2),
    "True": 0,
    "self": None,
}


def failure(predicate: str, context: dict[str, Any] | None = None) -> PredicateSyntaxError:
    with pytest.raises(PredicateSyntaxError) as caught:
        evaluate_predicate(predicate, CONTEXT if context is None else context)
    assert caught.value.predicate == predicate
    return caught.value


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        # names and constants
        ("x", True),
        ("flag", False),
        ("empty", False),
        ("True", True),
        ("False", False),
        ("None", False),
        ("0", False),
        ("''", False),
        ("b'a'", True),
        ("...", True),
        ("1j", True),
        ("0x10 == 16", True),
        ("'al' 'pha' == name", True),
        # equality without coercion
        ("1 == '1'", False),
        ("1 == 1.0", True),
        ("True == 1", True),
        ("x != 3", False),
        ("name == 'alpha'", True),
        # order and chains
        ("1 < x < 5", True),
        ("1 < x < 3", False),
        ("1 < x <= 3 != 4 > 2 >= 2", True),
        ("5 < x < missing", False),
        ("(1 < 2) == True", True),
        # containment
        ("'a' in items", True),
        ("'z' not in items", True),
        ("x in (1, 2, 3)", True),
        ("x in [1, 2]", False),
        ("x in {1, 2, 3}", True),
        ("1 in pair", True),
        ("'lph' in name", True),
        ("'k' in data", True),
        ("1 in ()", False),
        # subscripts
        ("data['k']['deep'][-1] == 3", True),
        ("data[1] == 'one'", True),
        ("items[0] == 'a'", True),
        ("name[0] == 'a'", True),
        ("pair[1] == 2", True),
        ("data[data[1] == 'one'] == 'one'", True),
        ("[1, 2][1] == 2", True),
        ("(1, 2)[-1]", True),
        # literals
        ("()", False),
        ("(0,)", True),
        ("[]", False),
        ("(1, 2) == [1, 2]", True),
        ("[1, 2,] == [1, 2]", True),
        ("{1, 2, 2} == {2, 1}", True),
        ("pair == [1, 2]", False),
        # signs
        ("-x == -3", True),
        ("- -x == 3", True),
        ("+True == 1", True),
        ("-0.0 == 0", True),
        # boolean operators return values
        ("not x", False),
        ("not not x", True),
        ("not flag and x", True),
        ("(x or flag) == 3", True),
        ("(x and name) == 'alpha'", True),
        ("(flag or 0 or []) == []", True),
        ("x == 3 or missing", True),
        ("1 or 2 and missing", True),
        # text
        ("x == 3  # three", True),
        ("x == 3   ", True),
        ("(x ==\n 3)", True),
    ],
)
def test_a_predicate_means_what_the_table_says(predicate: str, expected: bool) -> None:
    assert evaluate_predicate(predicate, CONTEXT) is expected


@pytest.mark.parametrize(
    "predicate",
    [
        "0 and f()",
        "0 and missing",
        "flag and data['missing'] == 1",
        "0 and x.y",
        "not (1 or f())",
        "5 < x < f()",
        "2 < 1 is 3",
        "flag and -'a'",
        "0 and 1 < 'a'",
    ],
)
def test_pr_4_pr_8_an_operand_that_is_not_reached_is_not_judged(predicate: str) -> None:
    assert evaluate_predicate(predicate, CONTEXT) is False


@pytest.mark.parametrize(
    ("predicate", "node"),
    [
        ("f()", "Call"),
        ("x.real", "Attribute"),
        ("x + 1", "BinOp"),
        ("x ** 2", "BinOp"),
        ("lambda: 1", "Lambda"),
        ("1 if x else 2", "IfExp"),
        ("items[0:1]", "Slice"),
        ("items[0:1, 2]", "Slice"),
        ("{}", "Dict"),
        ("{'a': 1}", "Dict"),
        ("{**data}", "Dict"),
        ("[*items]", "Starred"),
        ("(*items,)", "Starred"),
        ("{*items}", "Starred"),
        ("f'{x}'", "JoinedStr"),
        ("f'text'", "JoinedStr"),
        ("(y := 1)", "NamedExpr"),
        ("await x", "Await"),
        ("(yield)", "Yield"),
        ("(yield from x)", "YieldFrom"),
        ("[i for i in items]", "ListComp"),
        ("{i for i in items}", "SetComp"),
        ("{i: i for i in items}", "DictComp"),
        ("(i for i in items)", "GeneratorExp"),
        ("x is None", "Is"),
        ("x is not None", "IsNot"),
        ("1 < 2 is 3", "Is"),
        ("~x", "Invert"),
        ("flag or f()", "Call"),
    ],
)
def test_pr_3_a_construct_that_is_not_allowed_is_refused_by_name(predicate: str, node: str) -> None:
    assert failure(predicate).detail == f"{node} is not allowed in a predicate"


@pytest.mark.parametrize("predicate", ["missing", "missing or 1", "missing and 0", "not missing", "x == missing"])
def test_a_name_that_is_not_in_the_context_is_named(predicate: str) -> None:
    assert failure(predicate).detail == "name 'missing' is not in the execution context"


@pytest.mark.parametrize(
    "predicate",
    ["", "   ", " x", "x = 1", "import os", "pass", "x; x", "x\nx", "(x", "x)", "[1", "a\0b", "'\ud800'", "x ==", "$"],
)
def test_pr_5_a_text_that_does_not_parse_is_a_syntax_error(predicate: str) -> None:
    error = failure(predicate)
    assert error.detail.startswith("syntax error: ")
    assert isinstance(error.__cause__, (SyntaxError, ValueError))


def test_pr_5_too_many_nested_parentheses_are_a_syntax_error() -> None:
    assert failure("(" * 300 + "1" + ")" * 300).detail == "syntax error: too many nested parentheses"


@pytest.mark.parametrize(
    ("predicate", "cause"),
    [
        ("data['missing']", KeyError),
        ("empty['a']['b']", KeyError),
        ("items[3]", IndexError),
        ("items[-4]", IndexError),
        ("items['a']", TypeError),
        ("x[0]", TypeError),
        ("self['a']", TypeError),
        ("data[(1, 2)]", TypeError),
        ("data[[1]]", TypeError),
    ],
)
def test_a_subscript_that_finds_nothing_fails(predicate: str, cause: type[Exception]) -> None:
    error = failure(predicate)
    assert error.detail.startswith(f"subscript lookup failed: {cause.__name__}: ")
    assert type(error.__cause__) is cause


@pytest.mark.parametrize(
    ("predicate", "start"),
    [
        ("1 < 'a'", "operator '<' failed for 'int' and 'str': TypeError: "),
        ("'a' >= None", "operator '>=' failed for 'str' and 'NoneType': TypeError: "),
        ("1 < 2 < 'a'", "operator '<' failed for 'int' and 'str': TypeError: "),
        ("x in 5", "operator 'in' failed for 'int' and 'int': TypeError: "),
        ("1 in name", "operator 'in' failed for 'int' and 'str': TypeError: "),
        ("[1] not in {1}", "operator 'not in' failed for 'list' and 'set': TypeError: "),
        ("-'a'", "operator '-' failed for 'str': TypeError: "),
        ("+None", "operator '+' failed for 'NoneType': TypeError: "),
        ("{[1]}", "set of 'list' failed: TypeError: "),
        ("{1, {2}}", "set of 'int', 'set' failed: TypeError: "),
    ],
)
def test_pr_6_operands_of_the_wrong_type_are_named_with_the_operator(predicate: str, start: str) -> None:
    error = failure(predicate)
    assert error.detail.startswith(start)
    assert type(error.__cause__) is TypeError


class Hostile:
    """Every operation raises, and so does asking for the text of what was raised."""

    class Refusal(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def _refuse(self, *_: Any) -> Any:
        raise self.Refusal

    __eq__ = __ne__ = __lt__ = __contains__ = __getitem__ = __bool__ = __neg__ = __hash__ = _refuse


@pytest.mark.parametrize(
    ("predicate", "detail"),
    [
        ("h == 1", "operator '==' failed for 'Hostile' and 'int': Refusal"),
        ("h != 1", "operator '!=' failed for 'Hostile' and 'int': Refusal"),
        ("h < 1", "operator '<' failed for 'Hostile' and 'int': Refusal"),
        ("1 in h", "operator 'in' failed for 'int' and 'Hostile': Refusal"),
        ("1 in [h]", "operator 'in' failed for 'int' and 'list': Refusal"),
        ("h[0]", "subscript lookup failed: Refusal"),
        ("-h", "operator '-' failed for 'Hostile': Refusal"),
        ("{h}", "set of 'Hostile' failed: Refusal"),
        ("h", "truth value of 'Hostile' failed: Refusal"),
        ("not h", "truth value of 'Hostile' failed: Refusal"),
        ("h and 1", "truth value of 'Hostile' failed: Refusal"),
        ("h or 1", "truth value of 'Hostile' failed: Refusal"),
    ],
)
def test_pr_6_any_exception_out_of_an_operator_is_converted_and_kept_as_the_cause(predicate: str, detail: str) -> None:
    error = failure(predicate, {"h": Hostile()})
    assert error.detail == detail
    assert type(error.__cause__) is Hostile.Refusal


def test_a_comparison_whose_result_has_no_truth_is_converted_inside_a_chain() -> None:
    class Odd:
        def __eq__(self, other: object) -> Any:
            return Hostile()

        __hash__ = None  # type: ignore[assignment]

    assert failure("o == 1 == 2", {"o": Odd()}).detail == "truth value of 'Hostile' failed: Refusal"


def test_values_that_contain_themselves_fail_to_compare() -> None:
    first: list[Any] = []
    first.append(first)
    second: list[Any] = []
    second.append(second)
    error = failure("a == b", {"a": first, "b": second})
    assert error.detail.startswith("operator '==' failed for 'list' and 'list': RecursionError")


def test_an_interrupt_is_not_converted() -> None:
    class Interrupting:
        def __bool__(self) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_predicate("i", {"i": Interrupting()})


def test_a_context_key_does_not_shadow_a_constant() -> None:
    assert evaluate_predicate("True", {"True": 0, "None": 1}) is True
    assert evaluate_predicate("None", {"True": 0, "None": 1}) is False


def test_operands_are_evaluated_once_and_from_left_to_right() -> None:
    seen: list[str] = []

    class Watched(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            seen.append(key)
            return super().__getitem__(key)

    assert evaluate_predicate("a < b < c and [d][e] and {f}", Watched(a=1, b=2, c=3, d=4, e=0, f=5)) is True
    assert seen == ["a", "b", "c", "d", "e", "f"]


def test_pr_9_the_context_is_left_as_it_was() -> None:
    before = copy.deepcopy(CONTEXT)
    for predicate in ("x in items", "data['k']['deep'] == [1]", "not empty", "-x < 0"):
        evaluate_predicate(predicate, CONTEXT)
    assert before == CONTEXT


def test_pr_9_dicts_that_make_up_missing_keys_are_not_asked_to() -> None:
    context: defaultdict[str, Any] = defaultdict(int, inner=defaultdict(int))
    assert failure("inner['a']", context).detail == "subscript lookup failed: KeyError: 'a'"
    assert failure("outer", context).detail == "name 'outer' is not in the execution context"
    assert context == {"inner": {}}


def test_pr_9_iterators_are_not_searched_since_that_would_consume_them() -> None:
    numbers = iter([1, 2, 3])
    error = failure("2 in numbers", {"numbers": numbers})
    assert error.detail == (
        "operator 'in' failed for 'int' and 'list_iterator': TypeError: searching an iterator would consume it"
    )
    assert list(numbers) == [1, 2, 3]


def test_pr_10_the_same_text_is_evaluated_anew_on_each_context() -> None:
    assert [evaluate_predicate("x > 2", {"x": x}) for x in (1, 3, 2, 4)] == [False, True, False, True]


@pytest.mark.parametrize("predicate", ["x = 1", "missing", "f()"])
def test_pr_10_a_failure_is_raised_anew_each_time(predicate: str) -> None:
    assert failure(predicate) is not failure(predicate)


def test_a_result_is_always_a_bool() -> None:
    assert evaluate_predicate("'text' or 1", {}) is True
    assert evaluate_predicate("0 or ''", {}) is False


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        (" or ".join(["0"] * 1000), False),
        (" and ".join(["1"] * 1000), True),
        ("(" * 90 + "1" + ")" * 90, True),
        ("[" * 90 + "]" * 90, True),
        ("-" * 300 + "1", True),
        ("not " * (MAX_DEPTH - 1) + "1", False),
        (" < ".join(str(n) for n in range(1000)), True),
        ("1" + " " * (MAX_LENGTH - 1), True),
    ],
    ids=["or", "and", "parentheses", "lists", "signs", "depth", "chain", "length"],
)
def test_pr_7_large_predicates_within_the_limits_work(predicate: str, expected: bool) -> None:
    assert evaluate_predicate(predicate, {}) is expected


def test_pr_7_a_subscript_chain_as_deep_as_the_limit_works() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert evaluate_predicate("x" + "[0]" * (MAX_DEPTH - 1), {"x": value}) is True


def test_pr_7_one_character_over_the_length_is_refused() -> None:
    error = failure("1" + " " * MAX_LENGTH)
    assert error.detail == "longer than the limit of 10000 characters"


def test_pr_7_one_level_over_the_depth_is_refused() -> None:
    error = failure("not " * MAX_DEPTH + "1")
    assert error.detail == "nested deeper than the limit of 400 levels"


@pytest.mark.parametrize(
    "predicate",
    [
        "-" * 5000 + "1",
        "not " * 2400 + "1",
        "~" * 9000 + "x",
        "x" + "[0]" * 3300,
        "x" + ".a" * 4900,
        "f(" * 4000,
        "(" * 4900 + "1" + ")" * 4900,
        "[" * 5000,
        "{" * 9999,
        "1" + " + 1" * 2400,
        "1 if 1 else " * 800 + "1",
        "lambda:" * 1400 + "1",
        "f'{" * 3000,
        "x" * 1_000_000,
        "-" * 1_000_000 + "1",
        "1 or " * 1_000_000 + "1",
        "9" * 5000,
        "\0" * 100,
        "(" * 100 + "\0",
        "'" * 9999,
        "\\" * 9999,
        "0 and (" + "not " * 2000 + "1)",
    ],
    ids=lambda predicate: f"{predicate[:8]!a}x{len(predicate)}",
)
def test_pr_7_hostile_sizes_and_depths_are_refused_quickly(predicate: str) -> None:
    start = time.perf_counter()
    error = failure(predicate)
    assert time.perf_counter() - start < 2
    assert "limit" in error.detail or error.detail.startswith("syntax error: ")


def test_pr_7_a_stack_that_is_nearly_full_gives_the_typed_error() -> None:
    predicate = "not " * (MAX_DEPTH - 2) + "x"
    assert evaluate_predicate(predicate, {"x": 1}) is True

    def deeper(levels: int) -> PredicateSyntaxError:
        return failure(predicate, {"x": 1}) if levels == 0 else deeper(levels - 1)

    error = deeper(sys.getrecursionlimit() - len(inspect.stack()) - 150)
    assert error.detail == "nested deeper than the stack has room for; the limit is 400 levels"
    assert isinstance(error.__cause__, RecursionError)


@pytest.mark.parametrize(
    "predicate",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__[0].__subclasses__()",
        "''.__class__",
        "x.__class__.__mro__",
        "self.__dict__",
        "data.get('k')",
        "name.format(x)",
        "f'{x.__class__}'",
        "f'{__import__(\"os\")}'",
        "(lambda: 1)()",
        "[c for c in ().__class__.__base__.__subclasses__()]",
        "exec('1')",
        "eval('1')",
        "open('/etc/passwd')",
        "print",
        "__builtins__",
        "__builtins__['eval']",
        "globals()",
        "object",
        "__name__",
        "__debug__",
        "name % x",
        "'%s' % x",
        "'a' * 1000000000",
        "10 ** 10 ** 10",
        "1 << 100000000",
        "(x := 5)",
        "@name",
        "import os",
        "__import__('os') if x else 1",
        "data[f()]",
        "[f()]",
        "{f()}",
        "(f(),)",
        "-f()",
        "not f()",
        "f() or 1",
        "f() < 1",
        "1 < f()",
        "`x`",
        "x!",
    ],
)
def test_an_attempt_to_get_out_of_the_sandbox_is_refused(predicate: str) -> None:
    failure(predicate)


def test_a_warning_of_the_parser_is_not_hidden_and_not_fatal() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert evaluate_predicate(r"'\w' == '\\w'", {}) is True
    assert [str(warning.message) for warning in seen if r"\w" in str(warning.message)]


def test_a_warning_that_a_filter_makes_an_error_is_a_syntax_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert failure(r"'\q' == 'q'").detail.startswith("syntax error: ")


def test_comparing_literals_by_identity_is_refused_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        failure("1 is 1")
    assert seen == []


@pytest.mark.parametrize(
    ("predicate", "names"),
    [
        ("x", {"x"}),
        ("True and None or False", set()),
        ("x > 1 and data['k'][key] in {a, b} or not (c,)", {"x", "data", "key", "a", "b", "c"}),
        ("0 and unreached", {"unreached"}),
        ("f(x).y", {"f", "x"}),
        ("'x'", set()),
        ("x =", set()),
        ("", set()),
        ("x" * (MAX_LENGTH + 1), set()),
    ],
)
def test_the_names_that_a_predicate_can_read_are_known(predicate: str, names: set[str]) -> None:
    assert predicate_names(predicate) == frozenset(names)
