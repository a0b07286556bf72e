"""Other libraries that run steps, to be measured at the same work: one module each, named as in `PEERS`.

A module offers what its library can do: `chain(length)`, `chain_awaited(length)`, `layers(shape)`, `layers_awaited(shape)`, with
`shape` as in `bench_floors.levels`, each step behind the whole level before it. Each builds its graph once and returns a
function that runs it from a value and returns the last step's value. Modules import their library, so only `measure` imports
them, in an environment of their own.
"""

from typing import NamedTuple


class Work(NamedTuple):
    """One column: the function of a peer's module, and the length of the chain or the widths of the levels."""

    function: str
    size: int | list[int]

    @property
    def awaited(self) -> bool:
        return self.function.endswith("_awaited")

    @property
    def steps(self) -> int:
        return self.size if isinstance(self.size, int) else sum(self.size)

    @property
    def last_value(self) -> int:
        """What comes out of a run from 0 when each step adds 1."""
        return self.size if isinstance(self.size, int) else len(self.size)


WORKS = {
    "chain of 100, sync": Work("chain", 100),
    "chain of 100, async": Work("chain_awaited", 100),
    "chain of 1,000, sync": Work("chain", 1000),
    "chain of 1,000, async": Work("chain_awaited", 1000),
    "30 x 30 connected, sync": Work("layers", [30] * 30),
    "30 x 30 connected, async": Work("layers_awaited", [30] * 30),
}


class Peer(NamedTuple):
    """What is installed, and what a reader has to know to compare fairly."""

    title: str
    requirement: str
    validation: str
    note: str = ""


BY_HAND, OWN = "none of its own: by hand in the step", "its own, of inputs and outputs"

GRAPHS = "its sync call drives the async one; a level of a DAG is one step mapped over a list, and a join"

PEERS = {
    "chainweaver": Peer("ChainWeaver", "chainweaver==0.14.1", OWN, "keeps a record a step"),
    "langgraph": Peer("LangGraph", "langgraph==1.2.24", "its own of a chain's inputs; the rest by hand in the step"),
    "hamilton": Peer("Hamilton", "apache-hamilton==1.90.0", BY_HAND, "was sf-hamilton"),
    "burr": Peer("Burr", "apache-burr==0.43.0", OWN, "no DAGs"),
    "pydantic_graph": Peer("pydantic-graph", "pydantic-graph==2.68.0", BY_HAND, GRAPHS),
    "haystack": Peer("Haystack", "haystack-ai==3.4.1", BY_HAND, "time grows with the square of the chain"),
    "dask": Peer("Dask", "dask==2026.8.0", BY_HAND, "no async lane; its scheduler that runs calls one by one"),
}
