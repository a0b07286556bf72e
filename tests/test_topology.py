import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import pytest

from doubleweave.errors import DAGDefinitionError
from doubleweave.flow import ConditionalEdge, DAGFlow, DAGFlowStep, validate_dag_topology
from doubleweave.models.topology import dag_levels


def step(step_id: str, *depends_on: str, to: Sequence[str] = (), otherwise: str | None = None) -> DAGFlowStep:
    return DAGFlowStep(
        step_id=step_id,
        tool_name="t",
        depends_on=list(depends_on),
        branches=[ConditionalEdge(target_step_id=target, predicate="x") for target in to],
        default_next=otherwise,
    )


def dag(*steps: DAGFlowStep) -> DAGFlow:
    return DAGFlow(name="net", version="1.0", description="d", steps=list(steps))


def level_ids(flow: DAGFlow) -> list[list[str]]:
    return [[step.step_id for step in level] for level in dag_levels(flow)]


REJECTIONS = {
    "1 step_id values unique: duplicate id": ([step("a"), step("b"), step("a")], "duplicate_step_id", "'a'"),
    "1 step_id values unique: first duplicate in list order": (
        [step("b"), step("a"), step("a"), step("b")],
        "duplicate_step_id",
        "'a'",
    ),
    "2 every depends_on entry is a declared id: unknown dependency": (
        [step("a"), step("b", "a", "x")],
        "unknown_dependency",
        "'b' depends on unknown step 'x'",
    ),
    "2 every depends_on entry is a declared id: first unknown in list order": (
        [step("a", "y"), step("b", "x")],
        "unknown_dependency",
        "'y'",
    ),
    "3 no cycle (a step that depends on itself is a cycle): depends on itself": (
        [step("a", "a")],
        "cycle",
        ": a -> a.",
    ),
    "3 no cycle (a step that depends on itself is a cycle): cycle of two": (
        [step("a", "b"), step("b", "a")],
        "cycle",
        ": a -> b -> a.",
    ),
    "3 no cycle (a step that depends on itself is a cycle): cycle of three in running order": (
        [step("c", "b"), step("a", "c"), step("b", "a")],
        "cycle",
        ": c -> a -> b -> c.",
    ),
    "3 no cycle (a step that depends on itself is a cycle): cycle behind a root, with a tail": (
        [step("root"), step("tail", "q"), step("q", "p", "root"), step("p", "q")],
        "cycle",
        ": q -> p -> q.",
    ),
    "4 every branch target and default_next is a declared id: unknown branch target": (
        [step("a", to=["x"])],
        "unknown_branch_target",
        "'a' branches to unknown step 'x'",
    ),
    "4 every branch target and default_next is a declared id: unknown default": (
        [step("a", to=["b"], otherwise="x"), step("b", "a")],
        "unknown_branch_target",
        "'a' branches to unknown step 'x'",
    ),
    "5 every such target depends directly on the branching step: target that does not depend": (
        [step("a", to=["b"]), step("b")],
        "unknown_branch_target",
        "'a' branches to 'b', which",
    ),
    "5 every such target depends directly on the branching step: target that depends indirectly": (
        [step("a", to=["c"]), step("b", "a"), step("c", "b")],
        "unknown_branch_target",
        "'a' branches to 'c', which",
    ),
    "5 every such target depends directly on the branching step: default that does not depend": (
        [step("a", to=["b"], otherwise="c"), step("b", "a"), step("c")],
        "unknown_branch_target",
        "'a' branches to 'c', which",
    ),
    "5 every such target depends directly on the branching step: itself as target": (
        [step("a", to=["a"])],
        "unknown_branch_target",
        "'a' branches to 'a', which",
    ),
}

ORDER = {
    "duplicates before dependencies": ([step("a", "x"), step("b"), step("b")], "duplicate_step_id", "'b'"),
    "dependencies before cycles": ([step("a", "a"), step("b", "x")], "unknown_dependency", "'x'"),
    "cycles before targets": ([step("a", to=["x"]), step("b", "b")], "cycle", "b -> b"),
    "targets per step, whatever is wrong": (
        [step("a", to=["b"]), step("b", to=["x"])],
        "unknown_branch_target",
        "'a' branches to 'b', which",
    ),
    "branches in order": ([step("a", to=["y", "x"])], "unknown_branch_target", "'y'"),
    "branches before the default": ([step("a", to=["y"], otherwise="x")], "unknown_branch_target", "'y'"),
}


@pytest.mark.parametrize("check", [validate_dag_topology, dag_levels])
@pytest.mark.parametrize(
    ("steps", "reason", "fragment"), [*REJECTIONS.values(), *ORDER.values()], ids=[*REJECTIONS, *ORDER]
)
def test_d_1_a_wrong_topology_is_rejected(
    check: Callable[[DAGFlow], object], steps: list[DAGFlowStep], reason: str, fragment: str
) -> None:
    with pytest.raises(DAGDefinitionError) as caught:
        check(dag(*steps))
    error = caught.value
    assert (error.flow_name, error.reason) == ("net", reason)
    assert fragment in error.detail
    assert str(error) == f"Invalid DAG flow 'net' ({reason}): {error.detail}"
    assert str(error).endswith(".")
    assert not str(error).endswith("..")


@pytest.mark.parametrize(
    ("steps", "levels"),
    [
        ([], []),
        ([step("a")], [["a"]]),
        ([step("b"), step("a")], [["b", "a"]]),
        ([step("b", "a"), step("a")], [["a"], ["b"]]),
        ([step("b", "a", "a"), step("a")], [["a"], ["b"]]),
        ([step("d", "b", "c"), step("c", "a"), step("b", "a"), step("a")], [["a"], ["c", "b"], ["d"]]),
        ([step("a"), step("b", "a"), step("c", "a", "b"), step("z")], [["a", "z"], ["b"], ["c"]]),
        (
            [step("x", "s"), step("a"), step("b", "a"), step("s"), step("y", "b"), step("w", "a")],
            [["a", "s"], ["x", "b", "w"], ["y"]],
        ),
        ([step("a", to=["b", "c"], otherwise="b"), step("b", "a"), step("c", "a")], [["a"], ["b", "c"]]),
    ],
)
def test_levels_follow_the_longest_way_and_keep_the_declaration_order(
    steps: list[DAGFlowStep], levels: list[list[str]]
) -> None:
    flow = dag(*steps)
    validate_dag_topology(flow)
    assert level_ids(flow) == levels


def test_levels_hold_the_very_steps_of_the_flow() -> None:
    flow = dag(step("a"), step("b", "a"))
    first, second = dag_levels(flow)
    assert first[0] is flow.steps[0]
    assert second[0] is flow.steps[1]


SEED_SCRIPT = """
from doubleweave.errors import DAGDefinitionError
from doubleweave.flow import DAGFlow, DAGFlowStep
from doubleweave.models.topology import dag_levels

names = ["omega", "beta", "kappa", "alpha", "zeta", "eta", "mu", "pi"]
wide = [DAGFlowStep(step_id="root", tool_name="t")]
wide += [DAGFlowStep(step_id=name, tool_name="t", depends_on=["root"]) for name in names]
wide += [DAGFlowStep(step_id="end-" + name, tool_name="t", depends_on=[name, "root"]) for name in reversed(names)]
flow = DAGFlow(name="n", version="1", description="d", steps=wide)
print([[step.step_id for step in level] for level in dag_levels(flow)])
rings = [
    DAGFlowStep(step_id=name, tool_name="t", depends_on=[(names * 2)[index + 1], (names * 2)[index + 3]])
    for index, name in enumerate(names)
]
try:
    dag_levels(DAGFlow(name="n", version="1", description="d", steps=rings))
except DAGDefinitionError as error:
    print(error)
"""


def test_levels_and_messages_do_not_depend_on_the_hash_seed() -> None:
    outputs = set()
    for seed in ("0", "1", "2", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", SEED_SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
    levels, message = outputs.pop().splitlines()
    names = ["omega", "beta", "kappa", "alpha", "zeta", "eta", "mu", "pi"]
    assert levels == str([["root"], names, [f"end-{name}" for name in reversed(names)]])
    assert message.startswith("Invalid DAG flow 'n' (cycle): ")
    assert " -> " in message


class TestSize:
    """Processor time, so that a busy machine does not fail the test."""

    def test_twenty_thousand_steps_with_two_hundred_thousand_edges_take_little_time(self) -> None:
        numbers = random.Random(7)
        steps = [
            step(f"s{index}", *(f"s{numbers.randrange(index)}" for _ in range(10 if index else 0)))
            for index in range(20_000)
        ]
        flow = dag(*steps)
        started = time.process_time()
        levels = dag_levels(flow)
        assert time.process_time() - started < 3
        assert sum(len(level) for level in levels) == 20_000

    def test_a_chain_is_as_deep_as_it_is_long(self) -> None:
        count = 20_000
        chain = [step(f"s{index}", *([f"s{index + 1}"] if index + 1 < count else [])) for index in range(count)]
        started = time.process_time()
        levels = level_ids(dag(*chain))
        assert time.process_time() - started < 3
        assert levels == [[f"s{index}"] for index in reversed(range(count))]

    def test_a_long_cycle_is_found_and_shown(self) -> None:
        count = 20_000
        ring = [step(f"s{index}", f"s{(index - 1) % count}") for index in range(count)]
        flow = dag(*ring)
        started = time.process_time()
        with pytest.raises(DAGDefinitionError) as caught:
            validate_dag_topology(flow)
        assert time.process_time() - started < 3
        assert f"s{count - 2} -> s{count - 1} -> s0. Take one" in caught.value.detail

    def test_many_branches_to_one_target_with_many_dependencies_take_little_time(self) -> None:
        count = 20_000
        sources = [step(f"s{index}", to=["end"]) for index in range(count)]
        flow = dag(*sources, step("end", *(source.step_id for source in reversed(sources))))
        started = time.process_time()
        validate_dag_topology(flow)
        assert time.process_time() - started < 1
