"""What middleware is told of each call of a tool that may be retried."""

from typing import Any

import pytest

from doubleweave import BaseMiddleware, RetryPolicy
from executors_under_test import execute, lanes, make_executor
from parity_scenarios import QUICK, dag, linear, node, step, tools


class Attempts(BaseMiddleware):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.times: list[Any] = []

    def on_attempt_end(self, ctx: Any) -> None:
        self.told.append((ctx.step_index, ctx.tool_name, ctx.attempt, ctx.error_type, ctx.error_message))
        self.times += [ctx.started_at, ctx.ended_at]

    def on_step_end(self, ctx: Any) -> None:
        self.told.append((ctx.step_record.step_index, "end"))


@lanes
def test_each_call_is_told_with_its_time_and_what_it_failed_with(lane: str) -> None:
    listener = Attempts()
    result = execute(make_executor([linear(step("flaky", retry=QUICK))], tools(), middleware=[listener]), lane)
    assert listener.told == [
        (0, "flaky", 1, "OSError", "not yet"),
        (0, "flaky", 2, "OSError", "not yet"),
        (0, "flaky", 3, None, None),
        (0, "end"),
    ]
    record = result.execution_log[0]
    assert listener.times == sorted(listener.times)
    assert record.started_at <= listener.times[0]
    assert listener.times[0].tzinfo is not None


@lanes
def test_a_step_without_a_policy_has_no_attempts_and_the_last_failure_is_told_too(lane: str) -> None:
    listener = Attempts()
    policy = RetryPolicy(max_retries=1, backoff_seconds=0)
    flow = linear(step("inc"), step("boom", retry=policy, on_error="fallback:inc"), step("inc"))
    execute(make_executor([flow], tools(), middleware=[listener]), lane)
    assert [each[:4] for each in listener.told] == [
        (0, "end"),
        (1, "boom", 1, "ValueError"),
        (1, "boom", 2, "ValueError"),
        (1, "end"),
        (2, "end"),
    ]


@lanes
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_hook_that_fails_changes_nothing(lane: str, concurrency: int) -> None:
    class Failing(BaseMiddleware):
        def on_attempt_end(self, ctx: Any) -> None:
            raise RuntimeError("of the hook")

    class OfOldShape:
        """One without the optional hooks."""

        def on_flow_start(self, ctx: Any) -> None: ...
        def on_step_start(self, ctx: Any) -> None: ...
        def on_step_end(self, ctx: Any) -> None: ...
        def on_flow_end(self, ctx: Any) -> None: ...

    flow = dag(node("a", "flaky", retry=QUICK), node("b", "inc", output_mapping={"b": "n"}))
    middleware = [Failing(), OfOldShape()]
    result = execute(make_executor([flow], tools(), middleware=middleware, max_step_concurrency=concurrency), lane)
    assert [(record.success, record.retry_count) for record in result.execution_log] == [(True, 2), (True, 0)]
