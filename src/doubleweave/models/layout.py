"""Where the steps and edges of a flow stand in a drawing.

The drawing is layered after Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures" (IEEE Transactions on Systems, Man, and Cybernetics 11, 1981): levels by the longest path, in each level the
order of the barycentres of the neighbours, edges over more than one level bent where they pass it. The heights in a level
are those closest to the neighbours' that keep the distances, found by pooling adjacent violators (Ayer et al., Annals of
Mathematical Statistics 26, 1955).

It is written here because no library does it everywhere: `fast-sugiyama` is compiled, with wheels for three platforms,
`grandalf` has had no release since 2023 and is not permissively licensed, `networkx` neither orders levels nor bends edges,
and Graphviz `dot`, where present, takes minutes for 10,000 steps and draws by its version. The same flow has the same
layout on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from doubleweave.models.flows import AnyFlow
from doubleweave.models.labels import branch_labels, columns_of, cut, second_line, visible
from doubleweave.models.layers import Layers, Node
from doubleweave.models.topology import edges_of

Point = tuple[float, float]

MARGIN = 24
STEP_HEIGHT = 56
LABEL_HEIGHT = 20
NAME_COLUMNS = 28
LABEL_COLUMNS = 32
# Pixels for each column of the two sizes of letters, and around a text.
_NAME_PX, _SMALL_PX, _PADDING = 8, 7, 28
_NARROWEST = 176
_GAP, _WIDEST_GAP, _LABEL_GAP = 48, 160, 22
# How far from its step an edge that goes below the drawing turns.
_TURN = 14


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; `x` and `y` are of its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an edge: the positions of its two steps, its points, and where its label stands, if it has one.

    Between two points that differ in both coordinates nothing stands in the way, so that a curve may be drawn.
    """

    source: int
    target: int
    points: tuple[Point, ...]
    label: str = ""
    label_box: Box | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of a flow's steps, in their order, and of its edges; no two steps overlap. All numbers are pixels."""

    steps: tuple[Box, ...]
    edges: tuple[Route, ...]
    width: float
    height: float


def lay_out(flow: AnyFlow) -> Layout:
    """Return where to draw a flow: its levels from left to right, edges past the steps between their ends.

    The flow need not be valid. An edge back to an earlier level, and a long one where there are too many of them, goes
    below all steps. 10,000 steps take about a second.
    """
    edges = list(edges_of(flow))
    labels = branch_labels(flow)
    layers = Layers(len(flow.steps), edges, labels)
    for node, step in zip(layers.nodes, flow.steps, strict=False):
        name = min(columns_of(visible(step.display_name)), NAME_COLUMNS)
        below = min(columns_of(second_line(step)), NAME_COLUMNS)
        node.width = max(_NARROWEST, _PADDING + max(name * _NAME_PX, below * _SMALL_PX))
        node.height = STEP_HEIGHT
    for edge, number in layers.label_nodes.items():
        node = layers.nodes[number]
        node.width = 16 + _SMALL_PX * columns_of(cut(labels[edge], LABEL_COLUMNS))
        node.height = LABEL_HEIGHT
    layers.arrange()
    return _Places(layers, labels).layout(edges)


class _Places:
    """Pixels for what stands in layers."""

    def __init__(self, layers: Layers, labels: dict[tuple[int, int], str]) -> None:
        self._nodes = layers.nodes
        self._chains = layers.chains
        self._label_nodes = layers.label_nodes
        self._labels = labels
        self._steps = layers.nodes[: layers.steps]
        top = min((node.y - node.height / 2 for node in self._nodes), default=0)
        for node in self._nodes:
            node.y = round(node.y - top) + MARGIN
        self._columns = self._place_columns(layers)
        self._bottom = max((node.y + node.height / 2 for node in self._nodes), default=MARGIN)

    def layout(self, edges: Sequence[tuple[int, int]]) -> Layout:
        routes = tuple(self._route(edge) for edge in edges)
        below = any(edge not in self._chains for edge in edges)
        right = max((x + width for x, width in self._columns), default=MARGIN)
        return Layout(
            steps=tuple(self._box(node) for node in self._steps),
            edges=routes,
            width=right + MARGIN,
            height=self._bottom + MARGIN * (2 if below else 1),
        )

    def _place_columns(self, layers: Layers) -> list[tuple[float, float]]:
        """Return the left side and the width of each level."""
        places: list[tuple[float, float]] = []
        x: float = MARGIN
        for level in layers.levels:
            nodes = [self._nodes[number] for number in level]
            if places:
                x += self._gap(nodes)
            width = max((node.width for node in nodes), default=0)
            places.append((x, width))
            x += width
        return places

    def _gap(self, level: list[Node]) -> float:
        """Return the distance of a level from the one before: the steeper the edges, the wider."""
        ends = [(node, self._nodes[source]) for node in level for source, _ in node.before]
        rise = max((abs(node.y - source.y) for node, source in ends), default=0)
        labelled = any(node.height == LABEL_HEIGHT or source.height == LABEL_HEIGHT for node, source in ends)
        return min(_WIDEST_GAP, round((_LABEL_GAP if labelled else _GAP) + rise * 0.12))

    def _box(self, node: Node) -> Box:
        x, width = self._columns[node.level]
        # All steps of a level are as wide as the widest; a label keeps its own width.
        if node.height == STEP_HEIGHT:
            return Box(x, node.y - node.height / 2, width, node.height)
        return Box(x + (width - node.width) / 2, node.y - node.height / 2, node.width, node.height)

    def _route(self, edge: tuple[int, int]) -> Route:
        source, target = edge
        label = self._labels.get(edge, "")
        if edge not in self._chains:
            return self._route_below(source, target, label)
        points = [self._right(source)]
        for number in self._chains[edge]:
            node = self._nodes[number]
            x, width = self._columns[node.level]
            points += [(x, node.y), (x + width, node.y)]
        points.append(self._left(target))
        box = self._box(self._nodes[self._label_nodes[edge]]) if label else None
        return Route(source, target, tuple(points), label, box)

    def _route_below(self, source: int, target: int, label: str) -> Route:
        (start, high), (end, low) = self._right(source), self._left(target)
        y = self._bottom + MARGIN / 2
        turns = [(start + _TURN, high), (start + _TURN, y), (end - _TURN, y), (end - _TURN, low)]
        width = 16 + _SMALL_PX * columns_of(cut(label, LABEL_COLUMNS))
        box = Box((start + end - width) / 2, y - LABEL_HEIGHT / 2, width, LABEL_HEIGHT) if label else None
        return Route(source, target, ((start, high), *turns, (end, low)), label, box)

    def _right(self, step: int) -> Point:
        node = self._nodes[step]
        return sum(self._columns[node.level]), node.y

    def _left(self, step: int) -> Point:
        node = self._nodes[step]
        return self._columns[node.level][0], node.y
