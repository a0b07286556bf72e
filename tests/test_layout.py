"""Where the steps and edges of a flow stand in a drawing."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubleweave import AnyFlow, ConditionalEdge, DAGFlow, DAGFlowStep, Flow, FlowStep
from doubleweave.models.layout import Box, Layout, Route, lay_out
from doubleweave.models.topology import edges_of
from random_flows import dag_flows, linear_flows


def dag(*nodes: tuple[str, list[str]]) -> DAGFlow:
    steps = [DAGFlowStep(step_id=step_id, tool_name=step_id, depends_on=needs) for step_id, needs in nodes]
    return DAGFlow(name="dag", version="1", description="", steps=steps)


def chain(count: int) -> Flow:
    return Flow(name="chain", description="", steps=[FlowStep(tool_name=f"t{number}") for number in range(count)])


def fan(count: int) -> DAGFlow:
    middle = [f"m{number}" for number in range(count)]
    return dag(("first", []), *((name, ["first"]) for name in middle), ("last", middle))


DIAMOND = dag(("top", []), ("left", ["top"]), ("right", ["top"]), ("end", ["left", "right"]))
BRANCHES = DIAMOND.model_copy(deep=True)
BRANCHES.steps[0].branches = [ConditionalEdge(target_step_id="left", predicate="n > 4")]
BRANCHES.steps[0].default_next = "right"


def test_a_chain_stands_in_a_row() -> None:
    assert lay_out(chain(2)) == Layout(
        steps=(Box(24, 24, 176, 56), Box(248, 24, 176, 56)),
        edges=(Route(0, 1, ((200, 52), (248, 52))),),
        width=448,
        height=104,
    )


def test_a_flow_without_steps_has_no_places() -> None:
    assert lay_out(chain(0)) == lay_out(dag()) == Layout((), (), 48, 48)


def test_a_diamond_stands_even() -> None:
    layout = lay_out(DIAMOND)
    assert [(box.x, box.y) for box in layout.steps] == [(24, 62), (253, 24), (253, 100), (482, 62)]
    assert [(route.source, route.target) for route in layout.edges] == [(0, 1), (0, 2), (1, 3), (2, 3)]
    assert layout.edges[0].points == ((200, 90), (253, 52))


def test_labels_have_a_level_of_their_own() -> None:
    top, left, right, _ = lay_out(BRANCHES).steps
    guarded, default, plain, _ = lay_out(BRANCHES).edges
    assert (guarded.label, default.label, plain.label, plain.label_box) == ("n > 4", "otherwise", "", None)
    for box in (guarded.label_box, default.label_box):
        assert box is not None
        assert top.x + top.width < box.x < box.x + box.width < min(left.x, right.x)


def test_an_edge_over_several_levels_passes_the_steps_between() -> None:
    layout = lay_out(dag(("a", []), ("b", ["a"]), ("c", ["b", "a"])))
    between = layout.steps[1]
    route = next(route for route in layout.edges if (route.source, route.target) == (0, 2))
    assert [x for x, _ in route.points[1:3]] == [between.x, between.x + between.width]
    assert all(not between.y <= y <= between.y + between.height for _, y in route.points[1:3])


def test_edges_are_uncrossed() -> None:
    layout = lay_out(dag(("a", []), ("b", []), ("c", ["b"]), ("d", ["a"])))
    a, b, c, d = layout.steps
    assert (a.y < b.y) is (d.y < c.y)


def test_steps_that_depend_on_each_other_are_drawn_all_the_same() -> None:
    layout = lay_out(dag(("a", ["b"]), ("b", ["a", "b", "gone"])))
    assert [box.x for box in layout.steps] == [24, 248]
    assert {(route.source, route.target): len(route.points) for route in layout.edges} == {
        (1, 0): 6,
        (0, 1): 2,
        (1, 1): 6,
    }
    below = max(box.y + box.height for box in layout.steps)
    assert all(route.points[2][1] > below for route in layout.edges if len(route.points) == 6)
    assert max(y for route in layout.edges for _, y in route.points) < layout.height


def is_inside(box: Box, layout: Layout) -> bool:
    return 0 < box.x < box.x + box.width < layout.width and 0 < box.y < box.y + box.height < layout.height


def overlap(one: Box, other: Box) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return not beside and not (one.y + one.height <= other.y or other.y + other.height <= one.y)


@given(st.one_of(linear_flows(), dag_flows()))
def test_nothing_stands_on_something_else(flow: AnyFlow) -> None:
    layout = lay_out(flow)
    assert layout == lay_out(flow.model_copy(deep=True))
    assert len(layout.steps) == len(flow.steps)
    assert sorted((route.source, route.target) for route in layout.edges) == sorted(edges_of(flow))
    boxes = [*layout.steps, *(route.label_box for route in layout.edges if route.label_box is not None)]
    assert all(is_inside(box, layout) for box in boxes)
    assert [pair for pair in itertools.combinations(boxes, 2) if overlap(*pair)] == []


@given(st.one_of(linear_flows(), dag_flows()))
def test_edges_pass_beside_the_steps(flow: AnyFlow) -> None:
    layout = lay_out(flow)
    for route in layout.edges:
        first, last = layout.steps[route.source], layout.steps[route.target]
        assert route.points[0] == (first.x + first.width, first.y + first.height / 2)
        assert route.points[-1] == (last.x, last.y + last.height / 2)
        for (left, high), (right, low) in itertools.pairwise(route.points):
            # What spans the points holds every curve between them.
            way = Box(left, min(high, low), right - left, abs(high - low))
            passed = [box for number, box in enumerate(layout.steps) if number not in (route.source, route.target)]
            assert [box for box in passed if crosses(way, box)] == []


def crosses(way: Box, box: Box) -> bool:
    level = box.y < way.y + way.height and way.y < box.y + box.height
    return level and box.x < way.x + way.width and way.x < box.x + box.width


@pytest.mark.parametrize("flow", [chain(10_000), fan(9_998), dag(*((f"s{number}", []) for number in range(10_000)))])
def test_ten_thousand_steps_are_soon_laid_out(flow: AnyFlow) -> None:
    before = time.process_time()
    layout = lay_out(flow)
    assert time.process_time() - before < 5
    assert len({(box.x, box.y) for box in layout.steps}) == len(flow.steps)


def test_long_edges_go_below_when_they_are_too_many() -> None:
    names = [f"s{number}" for number in range(400)]
    layout = lay_out(
        dag(*((name, names[max(0, number - 1) : number]) for number, name in enumerate(names)), ("end", names))
    )
    turned = {
        route.source for route in layout.edges if len(route.points) > 2 and route.points[1][0] == route.points[2][0]
    }
    assert turned == set(range(227))
