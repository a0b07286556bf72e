"""The page on testing shows how everything is done that users must be able to do; `test_readme.py` runs its other examples."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="(\w+\.py)"\n(.*?)```', PAGE, re.DOTALL))
CODE = "\n".join(re.findall(r"```python.*?\n(.*?)```", PAGE, re.DOTALL))
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\naddopts = -p no:cacheprovider -W error --strict-markers"

NEEDS = {
    "run a flow offline with fakes": ["FlowTestRunner(", "fake_tool(", "execute(", "execute_async("],
    "assert call counts and inputs": ["calls_to(", "inputs_to("],
    "see steps while running": ["capture_steps("],
    "compare runs across time or lanes": ["assert_result_matches(", "assert_lanes_agree("],
    "pin a real backend's answers": ["@record_then_replay("],
    "prove a storage backend": ["(RegistryStoreConformance)", "(CheckpointerConformance)"],
    "show that a flow is deterministic in practice": ["attest_flow(", "attest_flow_async("],
    "find inputs that break a flow": ["FlowFuzzer(", "minimize_failure(", "run_async(", "minimize_failure_async("],
}


@pytest.mark.parametrize("used", NEEDS.values(), ids=NEEDS)
def test_the_page_has_an_example_for_each_need(used: list[str]) -> None:
    assert [name for name in used if name not in CODE] == []


@pytest.mark.parametrize(("name", "passed"), [("test_store.py", 16), ("test_order.py", 2)])
def test_the_test_files_of_the_page_pass(name: str, passed: int, pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    pytester.path.joinpath(name).write_text(FILES[name], encoding="utf-8")
    pytester.runpytest_inprocess().assert_outcomes(passed=passed)


def test_every_test_file_of_the_page_is_run() -> None:
    assert set(FILES) == {"test_store.py", "test_order.py"}
