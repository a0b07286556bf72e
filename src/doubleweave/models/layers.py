"""Steps in levels: which level, in which order, and how high. `layout` says after whom, and turns it into pixels."""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

Edge = tuple[int, int]

# Of what is not a step. An edge that would need more goes another way.
_MOST_BENDS = 15_000
_MOST_SWEEPS = 8
_APART = 20
# Nodes from which on a drawing is less carefully made, not to take too long.
_MANY = 4_000
# How hard an edge pulls its ends to one height: it is seen to be crooked between two bends first, and behind its label.
_PULLS = (1, 2, 8)
_TO_THE_MIDDLE = 0.2


class Node:
    """What takes a place in a level: a step, the label of an edge, or the bend of an edge that passes the level.

    `y` is the height of its middle. `before` and `after` are its neighbours in the levels next to its own, each with its pull.
    """

    __slots__ = ("after", "before", "height", "level", "width", "y")

    def __init__(self, level: int) -> None:
        self.level = level
        self.width: float = 0
        self.height: float = 0
        self.y: float = 0
        self.before: list[tuple[int, int]] = []
        self.after: list[tuple[int, int]] = []


class Layers:
    """Steps, given by number, and the edges between them, in levels.

    `nodes` are the steps and then what is not a step; `levels` hold their numbers in order. `chains` has, for each edge that
    goes through the levels, the nodes on its way; `label_nodes` the one of an edge's label. Set the sizes, then `arrange`.
    """

    def __init__(self, steps: int, edges: Sequence[Edge], labelled: Iterable[Edge]) -> None:
        self.steps = steps
        self.chains: dict[Edge, list[int]] = {}
        self.label_nodes: dict[Edge, int] = {}
        wanted = set(labelled) & set(edges)
        depths = _depths(steps, edges)
        self.nodes = [Node(level) for level in _levels_with_labels(depths, wanted)]
        self._add_chains(edges, wanted)
        self.levels: list[list[int]] = [[] for _ in range(max((node.level for node in self.nodes), default=-1) + 1)]
        for number, node in enumerate(self.nodes):
            self.levels[node.level].append(number)

    def arrange(self) -> None:
        """Set the order of each level, and the heights of all nodes."""
        self._order()
        self._rise()

    def _add_chains(self, edges: Sequence[Edge], wanted: set[Edge]) -> None:
        nodes = self.nodes
        spans = [nodes[target].level - nodes[source].level for source, target in edges]
        left = _MOST_BENDS
        for number in sorted(range(len(edges)), key=spans.__getitem__):
            edge, bends = edges[number], spans[number] - 1
            if bends < 0 or bends > left:
                continue
            left -= bends
            source, target = edge
            first = len(nodes)
            nodes += [Node(level) for level in range(nodes[source].level + 1, nodes[target].level)]
            self.chains[edge] = chain = list(range(first, len(nodes)))
            if edge in wanted:
                self.label_nodes[edge] = chain[-1]
            way = [source, *chain, target]
            for one, other in pairwise(way):
                pull = _PULLS[2 if edge in wanted and other == target else (one >= self.steps) + (other >= self.steps)]
                nodes[one].after.append((other, pull))
                nodes[other].before.append((one, pull))

    def _order(self) -> None:
        """Order the levels by their neighbours, to and fro, and keep the order in which the fewest edges cross."""
        best, fewest = self.levels, self._crossings()
        for sweep in range(_MOST_SWEEPS):
            if not fewest:
                break
            self.levels = self._sorted(forth=sweep % 2 == 0)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = self.levels, crossings
            elif sweep % 2:
                break
        self.levels = best

    def _sorted(self, *, forth: bool) -> list[list[int]]:
        levels = self.levels if forth else self.levels[::-1]
        places: dict[int, int] = {}
        found = []
        for level in levels:
            order = _by_barycentre(level, places, self._before if forth else self._after)
            places = {number: place for place, number in enumerate(order)}
            found.append(order)
        return found if forth else found[::-1]

    def _before(self, number: int) -> list[tuple[int, int]]:
        return self.nodes[number].before

    def _after(self, number: int) -> list[tuple[int, int]]:
        return self.nodes[number].after

    def _crossings(self) -> int:
        return sum(self._crossings_after(one, other) for one, other in pairwise(self.levels))

    def _crossings_after(self, one: list[int], other: list[int]) -> int:
        if len(one) == 1 or len(other) == 1:
            return 0
        places = {number: place for place, number in enumerate(other)}
        seen: list[int] = []
        crossings = 0
        for number in one:
            ends = sorted(places[end] for end, _ in self.nodes[number].after)
            crossings += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
        return crossings

    def _rise(self) -> None:
        for level in self.levels:
            for number, place in zip(level, self._spread(level, [0.0] * len(level), [1.0] * len(level)), strict=True):
                self.nodes[number].y = place
        rounds = 4 if len(self.nodes) > _MANY else 16
        for _ in range(rounds):
            self._pull(self.levels)
            self._pull(self.levels[::-1])

    def _pull(self, levels: list[list[int]]) -> None:
        """Move the nodes of each level as close to the heights of their neighbours as their distances allow."""
        nodes = self.nodes
        for level in levels:
            wanted, weights = [], []
            for number in level:
                pulls = nodes[number].before + nodes[number].after
                weight = sum([pull for _, pull in pulls])
                height = sum([nodes[end].y * pull for end, pull in pulls])
                # The weak pull to the middle keeps long drawings level. Who has no neighbour stays.
                wanted.append(height / (weight + _TO_THE_MIDDLE) if weight else nodes[number].y)
                weights.append(weight + _TO_THE_MIDDLE)
            for number, place in zip(level, self._spread(level, wanted, weights), strict=True):
                nodes[number].y = place

    def _spread(self, level: list[int], wanted: list[float], weights: list[float]) -> list[float]:
        """Return the heights, in order and far enough apart, whose weighted squares of differences from `wanted` are least."""
        if len(level) == 1:
            return wanted
        heights = [self.nodes[number].height for number in level]
        offsets = [0.0]
        for above, below in pairwise(heights):
            offsets.append(offsets[-1] + (above + below) / 2 + _APART)
        pools: list[tuple[float, float, int]] = []
        for height, offset, weight in zip(wanted, offsets, weights, strict=True):
            mean, total, count = height - offset, weight, 1
            while pools and pools[-1][0] >= mean:
                above_mean, above_total, above_count = pools.pop()
                mean = (mean * total + above_mean * above_total) / (total + above_total)
                total, count = total + above_total, count + above_count
            pools.append((mean, total, count))
        means = [mean for mean, _, count in pools for _ in range(count)]
        return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _by_barycentre(
    level: list[int], places: dict[int, int], neighbours: Callable[[int], list[tuple[int, int]]]
) -> list[int]:
    """Return a level by the mean place of its neighbours; who has none stays where it is."""
    keys: dict[int, float] = {}
    for number in level:
        ends = neighbours(number)
        if ends:
            keys[number] = sum([places[end] for end, _ in ends]) / len(ends)
    moved = iter(sorted(keys, key=keys.__getitem__))
    return [next(moved) if number in keys else number for number in level]


def _depths(steps: int, edges: Sequence[Edge]) -> list[int]:
    """Return the longest way to each step. In a cycle the step that is declared first comes first."""
    after: list[list[int]] = [[] for _ in range(steps)]
    missing = [0] * steps
    for source, target in edges:
        after[source].append(target)
        missing[target] += 1
    depths = [0] * steps
    done = [False] * steps
    ready = [number for number in range(steps) if not missing[number]]
    for first in range(steps + 1):
        for number in ready:
            done[number] = True
            for target in after[number]:
                missing[target] -= 1
                if not done[target]:
                    depths[target] = max(depths[target], depths[number] + 1)
                    if not missing[target]:
                        ready.append(target)
        # What is left stands in a cycle, or behind one.
        ready = [first] if first < steps and not done[first] else []
    return depths


def _levels_with_labels(depths: list[int], labelled: set[Edge]) -> list[int]:
    """Return the level of each step when there is one for labels before each depth to which a labelled edge leads."""
    with_labels = {depths[target] for source, target in labelled if depths[source] < depths[target]}
    levels, level = [], -1
    for depth in range(max(depths, default=-1) + 1):
        level += 2 if depth in with_labels else 1
        levels.append(level)
    return [levels[depth] for depth in depths]
