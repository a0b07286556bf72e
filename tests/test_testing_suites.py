"""The suites that prove a backend: ours pass them, on both lanes, and each broken one fails the test that it should."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

import doubleweave as dw
from doubleweave import (
    AnyFlow,
    ExecutionResult,
    ExecutionSnapshot,
    FileCheckpointer,
    FileStepCache,
    FileStore,
    FileTraceStore,
    InMemoryCheckpointer,
    InMemoryStepCache,
    InMemoryStore,
    InMemoryTraceStore,
    StepCacheKey,
)
from doubleweave.testing import protocol_suites
from doubleweave.testing.protocol_suites import (
    CheckpointerConformance,
    RegistryStoreConformance,
    StepCacheConformance,
    TraceStoreConformance,
)

pytest_plugins = ["pytester"]
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\naddopts = -p no:cacheprovider -W error"


class TestInMemoryStore(RegistryStoreConformance):
    @pytest.fixture
    def store(self) -> InMemoryStore:
        return InMemoryStore()


class TestFileStore(RegistryStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path)


class TestInMemoryStepCache(StepCacheConformance):
    @pytest.fixture
    def cache(self) -> InMemoryStepCache:
        return InMemoryStepCache()


class TestFileStepCache(StepCacheConformance):
    @pytest.fixture
    def cache(self, tmp_path: Path) -> FileStepCache:
        return FileStepCache(tmp_path)


class TestInMemoryCheckpointer(CheckpointerConformance):
    @pytest.fixture
    def checkpointer(self) -> InMemoryCheckpointer:
        return InMemoryCheckpointer()


class TestFileCheckpointer(CheckpointerConformance):
    @pytest.fixture
    def checkpointer(self, tmp_path: Path) -> FileCheckpointer:
        return FileCheckpointer(tmp_path)


class TestInMemoryTraceStore(TraceStoreConformance):
    @pytest.fixture
    def trace_store(self) -> InMemoryTraceStore:
        return InMemoryTraceStore()


class TestFileTraceStore(TraceStoreConformance):
    @pytest.fixture
    def trace_store(self, tmp_path: Path) -> FileTraceStore:
        return FileTraceStore(tmp_path)


class OnOneLoop:
    """Refuses another loop than that of its first call, as a pool of connections would, and really waits."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._loop: Any = None

    async def _call(self, name: str, *arguments: Any) -> Any:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise RuntimeError("attached to a different loop")
        return getattr(self._backend, name)(*arguments)


class AsyncCache(OnOneLoop):
    async def get(self, key: StepCacheKey) -> Any:
        return await self._call("get", key)

    async def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        await self._call("set", key, output)

    async def clear(self) -> None:
        await self._call("clear")


class AsyncCheckpointer(OnOneLoop):
    async def save(self, snapshot: ExecutionSnapshot) -> None:
        await self._call("save", snapshot)

    async def load(self, trace_id: str) -> Any:
        return await self._call("load", trace_id)

    async def delete(self, trace_id: str) -> None:
        await self._call("delete", trace_id)

    def list_trace_ids(self) -> list[str]:
        ids: list[str] = self._backend.list_trace_ids()
        return ids


class TestAwaitedStepCache(StepCacheConformance):
    @pytest.fixture
    def cache(self) -> AsyncCache:
        return AsyncCache(InMemoryStepCache())


class TestAwaitedCheckpointer(CheckpointerConformance):
    @pytest.fixture
    def checkpointer(self) -> AsyncCheckpointer:
        return AsyncCheckpointer(InMemoryCheckpointer())


class SqliteCache:
    """A backend that refuses every thread but its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("CREATE TABLE outputs (digest TEXT PRIMARY KEY, output TEXT)")

    def get(self, key: StepCacheKey) -> Any:
        sql = "SELECT output FROM outputs WHERE digest = ?"
        row = self._connection.execute(sql, [key.digest]).fetchone()
        return None if row is None else dw.ToolChunk.model_validate_json(row[0]).data

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        row = [key.digest, dw.ToolChunk(data=output).model_dump_json()]
        self._connection.execute("INSERT OR REPLACE INTO outputs VALUES (?, ?)", row)

    def clear(self) -> None:
        self._connection.execute("DELETE FROM outputs")


class TestBlockingCacheOfOneThread(StepCacheConformance):
    @pytest.fixture
    def cache(self) -> Iterator[SqliteCache]:
        connection = sqlite3.connect(":memory:")
        yield SqliteCache(connection)
        connection.close()


# --- what the suites are ----------------------------------------------------------------------------------------------

FIXTURES = {
    "RegistryStoreConformance": "store",
    "StepCacheConformance": "cache",
    "CheckpointerConformance": "checkpointer",
    "TraceStoreConformance": "trace_store",
}


def test_the_suites_are_listed_and_not_collected_by_themselves() -> None:
    assert sorted(protocol_suites.__all__) == sorted(FIXTURES)
    assert not any(name.startswith("Test") for name in protocol_suites.__all__)


def test_without_pytest_importing_them_says_what_is_needed() -> None:
    code = (
        "import sys\nsys.modules['pytest'] = None\nimport doubleweave.testing\n"
        "try:\n    import doubleweave.testing.protocol_suites\n"
        "except ImportError as error:\n    print(error, error.name)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "doubleweave.testing.protocol_suites needs pytest: pip install pytest pytest\n"


@pytest.mark.parametrize(("suite", "fixture"), FIXTURES.items())
def test_a_fixture_that_is_not_overridden_says_so(suite: str, fixture: str, pytester: pytest.Pytester) -> None:
    pytester.makeini(INI)
    pytester.makepyfile(f"from doubleweave.testing.protocol_suites import {suite}\nclass TestMine({suite}): pass")
    number = sum(name.startswith("test_") for name in vars(getattr(protocol_suites, suite)))
    ran = pytester.runpytest_inprocess()
    ran.assert_outcomes(errors=number)
    ran.stdout.fnmatch_lines([f"*NotImplementedError: override the fixture '{fixture}'*"])


# --- what the suites find ---------------------------------------------------------------------------------------------


class Broken:
    """Gives what another backend gives, but for the methods that are overridden."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


class LosesText(Broken):
    def load_flow(self, name: str, version: str) -> AnyFlow:
        flow: AnyFlow = self.backend.load_flow(name, version)
        return flow.model_copy(update={"description": ""})


class HasEverything(Broken):
    def has_flow(self, name: str, version: str) -> bool:
        return True


class LoadsNothing(Broken):
    def load_flow(self, name: str, version: str) -> Any:
        return self.backend.load_flow(name, version) if self.backend.has_flow(name, version) else None


class AlwaysOverwrites(Broken):
    def save_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
        self.backend.save_flow(flow, overwrite=True)


class NeverOverwrites(Broken):
    def save_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
        self.backend.save_flow(flow)


class ListsBackwards(Broken):
    def list_keys(self) -> list[tuple[str, str]]:
        return list(reversed(self.backend.list_keys()))


class DeletesEveryVersion(Broken):
    def delete_flow(self, name: str, version: str) -> None:
        self.backend.delete_flow(name, version)
        for key in [key for key in self.backend.list_keys() if key[0] == name]:
            self.backend.delete_flow(*key)


class DeletesQuietly(Broken):
    def delete_flow(self, name: str, version: str) -> None:
        if self.backend.has_flow(name, version):
            self.backend.delete_flow(name, version)


class ForgetsTheVersion(Broken):
    """Says of no flow which version was asked for."""

    def load_flow(self, name: str, version: str) -> AnyFlow:
        if not self.backend.has_flow(name, version):
            raise dw.FlowNotFoundError(name)
        flow: AnyFlow = self.backend.load_flow(name, version)
        return flow

    def delete_flow(self, name: str, version: str) -> None:
        if not self.backend.has_flow(name, version):
            raise dw.FlowNotFoundError(name)
        self.backend.delete_flow(name, version)


class Joins(Broken):
    """Keeps flows by one text made of name and version."""

    separator = ""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self.flows: dict[str, AnyFlow] = {}

    def key(self, name: str, version: str) -> str:
        return f"{name}{self.separator}{version}"

    def save_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
        self.flows[self.key(flow.name, flow.version)] = flow

    def load_flow(self, name: str, version: str) -> AnyFlow:
        return self.flows[self.key(name, version)]

    def has_flow(self, name: str, version: str) -> bool:
        return self.key(name, version) in self.flows

    def list_keys(self) -> list[tuple[str, str]]:
        return sorted((flow.name, flow.version) for flow in self.flows.values())

    def delete_flow(self, name: str, version: str) -> None:
        del self.flows[self.key(name, version)]


class JoinsWithADot(Joins):
    separator = "."


class JoinsWithADash(Joins):
    separator = "-"


class NormalizesVersions(Joins):
    def key(self, name: str, version: str) -> str:
        return f"{name}@{Version(version)}".removesuffix(".0").removesuffix(".0")


class DeletesByBeginning(Joins):
    separator = "@"

    def delete_flow(self, name: str, version: str) -> None:
        for key in [key for key in self.flows if key.startswith(self.key(name, version))]:
            del self.flows[key]


class RaisesOnMiss(Broken):
    def get(self, key: StepCacheKey) -> Any:
        found = self.backend.get(key)
        if found is None:
            raise KeyError(key)
        return found


class TakesEmptyForMiss(Broken):
    def get(self, key: StepCacheKey) -> Any:
        return self.backend.get(key) or None


class GivesItsOwn(Broken):
    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self.outputs: dict[str, Any] = {}

    def get(self, key: StepCacheKey) -> Any:
        return self.outputs.get(key.digest)

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        self.outputs[key.digest] = output

    def clear(self) -> None:
        self.outputs.clear()


class Merges(Broken):
    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        self.backend.set(key, {**(self.backend.get(key) or {}), **output})


class ForgetsTheSchema(Broken):
    def get(self, key: StepCacheKey) -> Any:
        return self.backend.get(key.model_copy(update={"schema_hash": ""}))

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        self.backend.set(key.model_copy(update={"schema_hash": ""}), output)


class Keyed(Broken):
    """Keeps outputs by something made of a key."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self.outputs: dict[Any, Any] = {}

    def part(self, key: StepCacheKey) -> Any:
        raise NotImplementedError

    def get(self, key: StepCacheKey) -> Any:
        return self.outputs.get(self.part(key))

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        self.outputs[self.part(key)] = output


class ForgetsTheTool(Keyed):
    def part(self, key: StepCacheKey) -> Any:
        return key.schema_hash, key.input_value_hash


class ForgetsTheInput(Keyed):
    def part(self, key: StepCacheKey) -> Any:
        return key.tool_name, key.schema_hash


class JoinsAll(Keyed):
    def part(self, key: StepCacheKey) -> Any:
        return key.digest.replace("|", "")


class JoinsTheHashes(Keyed):
    def part(self, key: StepCacheKey) -> Any:
        return key.tool_name, key.schema_hash + key.input_value_hash


class Shortens(Keyed):
    def part(self, key: StepCacheKey) -> Any:
        return key.tool_name, key.schema_hash, key.input_value_hash[:32]


class FoldsCase(Keyed):
    def part(self, key: StepCacheKey) -> Any:
        return key.digest.lower()


class MixesUp(Keyed):
    def part(self, key: StepCacheKey) -> Any:
        return frozenset(key.digest.split("|"))


class NeverClears(Broken):
    def clear(self) -> None:
        pass


class InventsSnapshots(Broken):
    def load(self, trace_id: str) -> Any:
        return self.backend.load(trace_id) or next(map(self.backend.load, self.backend.list_trace_ids()), None)


class LoadsByBeginning(Broken):
    def load(self, trace_id: str) -> Any:
        return next(
            (self.backend.load(each) for each in self.backend.list_trace_ids() if each.startswith(trace_id)), None
        )


class ForgetsByBeginning(Broken):
    def delete(self, trace_id: str) -> None:
        for each in [each for each in self.backend.list_trace_ids() if each.startswith(trace_id)]:
            self.backend.delete(each)


class ShortensIds(Broken):
    def save(self, item: ExecutionSnapshot | ExecutionResult) -> None:
        self.backend.save(item.model_copy(update={"trace_id": item.trace_id[:2]}))

    def load(self, trace_id: str) -> Any:
        found = self.backend.load(trace_id[:2])
        return None if found is None else found.model_copy(update={"trace_id": trace_id})


class DropsTheLog(Broken):
    def load(self, trace_id: str) -> Any:
        found = self.backend.load(trace_id)
        return None if found is None else found.model_copy(update={"execution_log": []})


class KeepsTheFirst(Broken):
    def save(self, item: ExecutionSnapshot | ExecutionResult) -> None:
        if self.backend.load(item.trace_id) is None:
            self.backend.save(item)


class NeverDeletes(Broken):
    def delete(self, trace_id: str) -> None:
        pass


class DeletesStrictly(Broken):
    def delete(self, trace_id: str) -> None:
        if self.backend.load(trace_id) is None:
            raise KeyError(trace_id)
        self.backend.delete(trace_id)


class ListsNone(Broken):
    def list_trace_ids(self) -> list[str]:
        return self.backend.list_trace_ids()[:1]  # type: ignore[no-any-return]  # a list of texts


class ListsSorted(Broken):
    def list_trace_ids(self) -> list[str]:
        return sorted(self.backend.list_trace_ids())


FAULTS = [
    (RegistryStoreConformance, InMemoryStore, LosesText, "test_round_trip"),
    (RegistryStoreConformance, InMemoryStore, HasEverything, "test_presence"),
    (RegistryStoreConformance, InMemoryStore, LoadsNothing, "test_load_missing_raises"),
    (RegistryStoreConformance, InMemoryStore, AlwaysOverwrites, "test_duplicate_save_raises"),
    (RegistryStoreConformance, InMemoryStore, NeverOverwrites, "test_overwrite_replaces"),
    (RegistryStoreConformance, InMemoryStore, ListsBackwards, "test_keys_are_complete_and_sorted"),
    (RegistryStoreConformance, InMemoryStore, DeletesEveryVersion, "test_delete"),
    (RegistryStoreConformance, InMemoryStore, DeletesQuietly, "test_delete_missing_raises"),
    (RegistryStoreConformance, InMemoryStore, ForgetsTheVersion, "test_load_missing_raises"),
    (RegistryStoreConformance, InMemoryStore, ForgetsTheVersion, "test_delete_missing_raises"),
    (RegistryStoreConformance, InMemoryStore, Joins, "test_keys_are_independent"),
    (RegistryStoreConformance, InMemoryStore, JoinsWithADot, "test_keys_are_independent"),
    (RegistryStoreConformance, InMemoryStore, JoinsWithADash, "test_keys_are_independent"),
    (RegistryStoreConformance, InMemoryStore, NormalizesVersions, "test_keys_are_independent"),
    (RegistryStoreConformance, InMemoryStore, DeletesByBeginning, "test_keys_are_independent"),
    (StepCacheConformance, InMemoryStepCache, RaisesOnMiss, "test_miss_is_none"),
    (StepCacheConformance, InMemoryStepCache, TakesEmptyForMiss, "test_set_then_get"),
    (StepCacheConformance, InMemoryStepCache, GivesItsOwn, "test_get_returns_a_copy"),
    (StepCacheConformance, InMemoryStepCache, Merges, "test_overwrite"),
    (StepCacheConformance, InMemoryStepCache, ForgetsTheSchema, "test_keys_are_independent"),
    *((StepCacheConformance, InMemoryStepCache, each, "test_keys_are_independent") for each in Keyed.__subclasses__()),
    (StepCacheConformance, InMemoryStepCache, NeverClears, "test_clear"),
    (CheckpointerConformance, InMemoryCheckpointer, InventsSnapshots, "test_load_missing_is_none"),
    (CheckpointerConformance, InMemoryCheckpointer, DropsTheLog, "test_round_trip"),
    (CheckpointerConformance, InMemoryCheckpointer, KeepsTheFirst, "test_overwrite"),
    (CheckpointerConformance, InMemoryCheckpointer, NeverDeletes, "test_delete"),
    (CheckpointerConformance, InMemoryCheckpointer, DeletesStrictly, "test_delete_missing_does_nothing"),
    (CheckpointerConformance, InMemoryCheckpointer, ListsNone, "test_ids_are_listed"),
    (CheckpointerConformance, InMemoryCheckpointer, LoadsByBeginning, "test_ids_are_independent"),
    (CheckpointerConformance, InMemoryCheckpointer, ForgetsByBeginning, "test_ids_are_independent"),
    (CheckpointerConformance, InMemoryCheckpointer, ShortensIds, "test_ids_are_independent"),
    (TraceStoreConformance, InMemoryTraceStore, LoadsByBeginning, "test_ids_are_independent"),
    (TraceStoreConformance, InMemoryTraceStore, ForgetsByBeginning, "test_ids_are_independent"),
    (TraceStoreConformance, InMemoryTraceStore, ShortensIds, "test_ids_are_independent"),
    (TraceStoreConformance, InMemoryTraceStore, InventsSnapshots, "test_load_missing_is_none"),
    (TraceStoreConformance, InMemoryTraceStore, DropsTheLog, "test_round_trip"),
    (TraceStoreConformance, InMemoryTraceStore, KeepsTheFirst, "test_overwrite_makes_the_newest"),
    (TraceStoreConformance, InMemoryTraceStore, ListsSorted, "test_ids_are_listed_oldest_first"),
    (TraceStoreConformance, InMemoryTraceStore, NeverDeletes, "test_delete"),
    (TraceStoreConformance, InMemoryTraceStore, DeletesStrictly, "test_delete_missing_does_nothing"),
]


def passes(suite: Any, name: str, backend: Any) -> bool:
    try:
        getattr(suite(), name)(backend)
    except (AssertionError, pytest.fail.Exception, KeyError, dw.DoubleweaveError):
        return False
    return True


@pytest.mark.parametrize(("suite", "good", "broken", "name"), FAULTS, ids=lambda item: getattr(item, "__name__", item))
def test_a_broken_backend_fails_the_test_that_is_about_it(suite: Any, good: Any, broken: Any, name: str) -> None:
    assert passes(suite, name, good())
    assert not passes(suite, name, broken(good()))


def test_every_test_of_a_suite_finds_a_fault() -> None:
    for suite in (getattr(protocol_suites, name) for name in FIXTURES):
        tests = {name for name in vars(suite) if name.startswith("test_")}
        assert {name for each, _, _, name in FAULTS if each is suite} == tests


def test_an_awaited_backend_may_be_broken_too() -> None:
    assert passes(CheckpointerConformance, "test_overwrite", AsyncCheckpointer(InMemoryCheckpointer()))
    assert not passes(
        CheckpointerConformance, "test_overwrite", AsyncCheckpointer(KeepsTheFirst(InMemoryCheckpointer()))
    )
    assert not passes(StepCacheConformance, "test_miss_is_none", AsyncCache(RaisesOnMiss(InMemoryStepCache())))
