"""Random flows, on both lanes and at several concurrencies: everything a user can see agrees."""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubleweave import AnyFlow
from lanes_under_test import Case, observe
from random_flows import INNER, dag_flows, linear_flows, tools

EXAMPLES = int(os.environ.get("DOUBLEWEAVE_PARITY_EXAMPLES", "2000"))


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
@given(flow=st.one_of(linear_flows(), dag_flows()), start=st.integers(0, 9), concurrency=st.sampled_from([1, 3]))
def test_the_lanes_agree_on_any_flow(flow: AnyFlow, start: int, concurrency: int) -> None:
    case = Case([flow, INNER], tools, {"n": start})
    first = observe(case, "sync", concurrency)
    second = observe(case, "async", concurrency)
    if concurrency == 1:
        assert first.comparable(True) == second.comparable(True)
        return
    one = observe(case, "sync", 1)
    for seen in (first, second):
        mine, reference = seen.comparable(False), one.comparable(False)
        assert (mine["result"], mine["error"]) == (reference["result"], reference["error"])
        if mine["result"] is not None and mine["result"]["success"]:
            # Of a failed run, steps that follow in the order may have begun.
            assert (mine["hooks"], mine["lines"]) == (reference["hooks"], reference["lines"])
