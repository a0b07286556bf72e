import asyncio
import contextvars
import dataclasses
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from doubleweave.errors import FlowSerializationError, SchemaRefPolicyError
from doubleweave.flow import (
    SchemaRefAllowlist,
    SchemaRefPolicy,
    get_schema_ref_policy,
    resolve_class_ref,
    schema_ref_policy,
    set_schema_ref_policy,
)

not_a_class = 3


class Model(BaseModel):
    class Inner(BaseModel):
        pass


class Plain:
    pass


def refuse_all(module_path: str) -> bool:
    return False


def accept_all(module_path: str) -> bool:
    return True


@pytest.fixture(autouse=True)
def no_policy_is_left_behind() -> Iterator[None]:
    assert get_schema_ref_policy() is None
    yield
    assert get_schema_ref_policy() is None


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Make an importable module that creates the returned file when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, body: str = "") -> Path:
        mark = tmp_path / f"{name}.imported"
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n{body}\n")
        return mark

    return make


# Which step of the resolution fails, by the name that the specification gives it, how it says so, and for what.
REJECTED: list[tuple[str, str, list[tuple[str, type | None]]]] = [
    ("`ref` contains `:`; split at the first one", "'module:qualname' form", [("builtins.int", None), ("", None)]),
    (
        "import the module",
        "Cannot import module",
        [
            ("no_such_module_here:X", None),
            ("builtins.no_such_part:X", None),
            (":X", None),
            (".relative:X", None),
            ("..:X", None),
            ("a b:X", None),
            ("\x00:X", None),
            ("os\x00:stat_result", None),
            ("os\x00.path:X", None),
            ("os.\x00path:X", None),
            ("os/path:X", None),
            ("os..path:X", None),
            ("os.:stat_result", None),
            (" os:stat_result", None),
            ("os\n:stat_result", None),
            ("1st:X", None),
            ("\ud800:X", None),
        ],
    ),
    (
        "walk the dotted qualname by attribute",
        "not found",
        [
            ("builtins:NoSuchName", None),
            ("builtins:", None),
            ("builtins:int:str", None),
            (f"{__name__}:Model.Missing", None),
            (f"{__name__}:Model..Inner", None),
        ],
    ),
    ("result is a class", "expected a class", [(f"{__name__}:not_a_class", None), ("builtins:len", None)]),
    (
        "subclass of `expected_base`",
        "not a subclass",
        [("builtins:int", BaseModel), (f"{__name__}:Plain", BaseException)],
    ),
]


class TestResolving:
    @pytest.mark.parametrize(
        ("ref", "base", "cls"),
        [
            ("builtins:int", None, int),
            ("builtins:ValueError", BaseException, ValueError),
            ("builtins:Exception", Exception, Exception),
            (f"{__name__}:Model", BaseModel, Model),
            (f"{__name__}:Model.Inner", BaseModel, Model.Inner),
            (f"{__name__}:Plain", None, Plain),
            ("collections.abc:Mapping", None, __import__("collections.abc").abc.Mapping),
        ],
    )
    def test_returns_the_class(self, ref: str, base: type | None, cls: type) -> None:
        assert resolve_class_ref(ref, expected_base=base) is cls

    @pytest.mark.parametrize(
        ("ref", "base", "fragment"),
        [
            pytest.param(*case, fragment, id=f"{row}: {case[0]!a}")
            for row, fragment, cases in REJECTED
            for case in cases
        ],
    )
    def test_rejects(self, ref: str, base: type | None, fragment: str) -> None:
        with pytest.raises(FlowSerializationError, match=fragment) as caught:
            resolve_class_ref(ref, expected_base=base)
        assert caught.value.code == "CW-E017"
        assert caught.value.source is None
        assert f"'{ref}'" in str(caught.value)

    def test_keeps_the_import_error_as_the_cause(self) -> None:
        with pytest.raises(FlowSerializationError) as caught:
            resolve_class_ref("no_such_module_here:X")
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)

    def test_import_the_module_translates_an_import_error_inside_it(self, make_module: Callable[..., Path]) -> None:
        make_module("refs_missing_dependency", "import no_such_module_here")
        with pytest.raises(FlowSerializationError, match="Cannot import module 'refs_missing_dependency'"):
            resolve_class_ref("refs_missing_dependency:X")

    def test_import_the_module_lets_every_other_error_pass(self, make_module: Callable[..., Path]) -> None:
        make_module("refs_broken_module", "raise ZeroDivisionError('at import')")
        with pytest.raises(ZeroDivisionError, match="at import"):
            resolve_class_ref("refs_broken_module:X")

    @pytest.mark.parametrize("error", ["AttributeError", "ImportError", "KeyError"])
    def test_does_not_find_what_a_lazy_module_fails_to_load(self, make_module: Callable[..., Path], error: str) -> None:
        name = f"refs_lazy_{error.lower()}"
        make_module(name, f"def __getattr__(name):\n    raise {error}(name)")
        with pytest.raises(FlowSerializationError, match="not found"):
            resolve_class_ref(f"{name}:X")


class TestPolicy:
    def test_r_2_allows_everything_by_default(self) -> None:
        assert get_schema_ref_policy() is None
        assert resolve_class_ref("builtins:int") is int

    def test_active_policy_if_any_returns_truthy_for_the_module_path_before_any_import(
        self, make_module: Callable[..., Path]
    ) -> None:
        mark = make_module("refs_forbidden_module", "class X: ...")
        ref = "refs_forbidden_module:X"
        with schema_ref_policy(refuse_all), pytest.raises(SchemaRefPolicyError) as caught:
            resolve_class_ref(ref)
        assert (caught.value.module_path, caught.value.ref) == ("refs_forbidden_module", ref)
        assert not isinstance(caught.value, FlowSerializationError)
        assert not mark.exists()
        assert "refs_forbidden_module" not in sys.modules

        assert resolve_class_ref(ref).__name__ == "X"
        assert mark.exists()

    def test_also_refuses_a_module_that_is_already_imported(self) -> None:
        with schema_ref_policy(refuse_all), pytest.raises(SchemaRefPolicyError):
            resolve_class_ref(f"{__name__}:Model")

    def test_is_asked_about_the_module_alone(self) -> None:
        asked: list[str] = []

        def policy(module_path: str) -> bool:
            asked.append(module_path)
            return True

        with schema_ref_policy(policy):
            resolve_class_ref("collections.abc:Mapping")
            with pytest.raises(FlowSerializationError, match="'module:qualname' form"):
                resolve_class_ref("no colon")
        assert asked == ["collections.abc"]

    @pytest.mark.parametrize(
        "module_path", ["os\x00", "os\x00.x", "os.\x00path", "os ", "os.", ".os", "os..path", "", "os/path", "1st"]
    )
    def test_is_not_asked_about_what_is_no_dotted_name_and_nothing_is_imported(self, module_path: str) -> None:
        asked: list[str] = []

        def all_but_os(path: str) -> bool:
            asked.append(path)
            return path.split(".")[0] != "os"

        loaded = dict(sys.modules)
        with schema_ref_policy(all_but_os), pytest.raises(FlowSerializationError) as caught:
            resolve_class_ref(f"{module_path}:stat_result")
        assert f"Cannot import module '{module_path}' of class ref '{module_path}:stat_result': " in str(caught.value)
        assert asked == []
        assert sys.modules == loaded

    @pytest.mark.parametrize(("answer", "allowed"), [(1, True), ("yes", True), (0, False), (None, False), ("", False)])
    def test_counts_any_true_value_as_consent(self, answer: Any, allowed: bool) -> None:
        with schema_ref_policy(lambda module_path: answer):
            if allowed:
                assert resolve_class_ref("builtins:int") is int
            else:
                with pytest.raises(SchemaRefPolicyError):
                    resolve_class_ref("builtins:int")

    def test_r_1_is_any_callable_that_judges_a_module_path(self) -> None:
        assert SchemaRefPolicy == Callable[[str], bool]
        judge = ["builtins", "collections.abc"].__contains__
        with schema_ref_policy(judge):
            assert get_schema_ref_policy() == judge
            assert resolve_class_ref("collections.abc:Mapping").__name__ == "Mapping"
            with pytest.raises(SchemaRefPolicyError):
                resolve_class_ref("collections:Counter")

    def test_r_1_can_be_set_and_lifted(self) -> None:
        set_schema_ref_policy(refuse_all)
        assert get_schema_ref_policy() is refuse_all
        with pytest.raises(SchemaRefPolicyError):
            resolve_class_ref("builtins:int")
        set_schema_ref_policy(None)
        assert get_schema_ref_policy() is None
        assert resolve_class_ref("builtins:int") is int

    def test_r_1_returns_to_the_previous_one_after_each_block(self) -> None:
        with schema_ref_policy(refuse_all):
            with schema_ref_policy(accept_all):
                assert get_schema_ref_policy() is accept_all
                with schema_ref_policy(None):
                    assert get_schema_ref_policy() is None
                assert get_schema_ref_policy() is accept_all
            assert get_schema_ref_policy() is refuse_all
        assert get_schema_ref_policy() is None

    def test_r_1_returns_to_the_previous_one_after_an_exception(self) -> None:
        with pytest.raises(KeyError), schema_ref_policy(refuse_all):
            raise KeyError("inside")
        assert get_schema_ref_policy() is None

    def test_r_1_returns_to_the_previous_one_when_the_block_sets_another(self) -> None:
        with schema_ref_policy(refuse_all):
            set_schema_ref_policy(accept_all)
        assert get_schema_ref_policy() is None


class TestIsolation:
    def test_r_2_another_thread_has_its_own_policy(self) -> None:
        seen: list[SchemaRefPolicy | None] = []

        def other() -> None:
            seen.append(get_schema_ref_policy())
            set_schema_ref_policy(accept_all)
            seen.append(get_schema_ref_policy())

        with schema_ref_policy(refuse_all):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert get_schema_ref_policy() is refuse_all
        assert seen == [None, accept_all]

    def test_r_2_a_copied_context_carries_the_policy_into_a_thread(self) -> None:
        seen: list[SchemaRefPolicy | None] = []
        with schema_ref_policy(refuse_all):
            context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: context.run(lambda: seen.append(get_schema_ref_policy())))
        thread.start()
        thread.join()
        assert seen == [refuse_all]

    async def test_r_2_concurrent_tasks_have_their_own_policies(self) -> None:
        both_set = asyncio.Barrier(2)

        async def task(policy: SchemaRefPolicy) -> SchemaRefPolicy | None:
            set_schema_ref_policy(policy)
            await both_set.wait()
            return get_schema_ref_policy()

        first, second = await asyncio.gather(task(refuse_all), task(accept_all))
        assert first is refuse_all
        assert second is accept_all
        assert get_schema_ref_policy() is None

    async def test_r_2_a_task_inherits_the_policy_it_was_started_under(self) -> None:
        async def task() -> SchemaRefPolicy | None:
            return get_schema_ref_policy()

        with schema_ref_policy(refuse_all):
            started = asyncio.create_task(task())
        assert await started is refuse_all


class TestAllowlist:
    @pytest.mark.parametrize(
        ("prefixes", "module_path", "allowed"),
        [
            (["app"], "app", True),
            (["app"], "app.models", True),
            (["app"], "app.models.deep", True),
            (["app"], "apple", False),
            (["app"], "ap", False),
            (["app"], "other.app", False),
            (["app.models"], "app", False),
            (["app.models"], "app.models", True),
            (["one", "two"], "two.x", True),
            (["one", "two"], "three", False),
            ([], "app", False),
            ([], "", False),
        ],
    )
    def test_r_3_accepts_its_modules_and_their_submodules(
        self, prefixes: list[str], module_path: str, allowed: bool
    ) -> None:
        assert SchemaRefAllowlist(prefixes)(module_path) is allowed

    @pytest.mark.parametrize("prefixes", [["a", "b"], ("a", "b")])
    def test_r_3_keeps_its_prefixes_as_a_tuple(self, prefixes: Any) -> None:
        assert SchemaRefAllowlist(prefixes).prefixes == ("a", "b")

    @pytest.mark.parametrize("prefixes", ["my_shop.schemas", ""])
    def test_r_3_one_text_is_no_list_of_prefixes(self, prefixes: str) -> None:
        with pytest.raises(TypeError) as caught:
            SchemaRefAllowlist(prefixes)
        assert str(caught.value) == (
            f"the prefixes of a SchemaRefAllowlist are a list of module names: give [{prefixes!r}]"
        )

    def test_r_3_is_a_frozen_value(self) -> None:
        allowlist = SchemaRefAllowlist(["a"])
        with pytest.raises(dataclasses.FrozenInstanceError):
            allowlist.prefixes = ()  # type: ignore[misc]
        assert allowlist == SchemaRefAllowlist(("a",))
        assert hash(allowlist) == hash(SchemaRefAllowlist(("a",)))
        assert repr(allowlist) == "SchemaRefAllowlist(prefixes=('a',))"

    def test_r_3_works_as_a_policy(self) -> None:
        with schema_ref_policy(SchemaRefAllowlist(["collections"])):
            assert resolve_class_ref("collections.abc:Mapping").__name__ == "Mapping"
            with pytest.raises(SchemaRefPolicyError, match="'builtins' is not permitted"):
                resolve_class_ref("builtins:int")


@pytest.mark.parametrize("body", ["{}['a']", "import sys; sys.nope"])
def test_a_module_whose_body_raises_a_lookup_error_cannot_be_imported(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks_on_import.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FlowSerializationError, match="Cannot import module 'breaks_on_import' of class ref"):
        resolve_class_ref("breaks_on_import:X")
