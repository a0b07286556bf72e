import threading
from pathlib import Path
from typing import Any, get_args

import pytest

from doubleweave.errors import (
    DAGDefinitionError,
    FlowAlreadyExistsError,
    FlowNotFoundError,
    InvalidFlowVersionError,
)
from doubleweave.flow import AnyFlow, DAGFlow, DAGFlowStep, Flow, FlowStatus, FlowStep
from doubleweave.models.registry import FlowRegistry
from doubleweave.models.storage import InMemoryStore, RegistryStore
from doubleweave.stores.flow_files import FileStore


def flow(name: str = "f", version: str = "1.0", **fields: Any) -> Flow:
    return Flow(name=name, version=version, steps=[FlowStep(tool_name="t")], **{"description": "d", **fields})


def dag(name: str = "f", version: str = "1.0", *, depends_on: list[str] | None = None) -> DAGFlow:
    step = DAGFlowStep(step_id="a", tool_name="t", depends_on=depends_on or [])
    return DAGFlow(name=name, version=version, description="d", steps=[step])


def registry_of(*flows: AnyFlow) -> FlowRegistry:
    registry = FlowRegistry()
    for each in flows:
        registry.register_flow(each)
    return registry


def contents(registry: FlowRegistry) -> tuple[dict[tuple[str, str], int], dict[str, str]]:
    """Which objects are registered, and which version of each name is the latest."""
    flows = registry.list_flows()
    latest = {each.name: registry.get_flow(each.name).version for each in flows}
    return {(each.name, each.version): id(each) for each in flows}, latest


class TestRegistering:
    def test_g_4_keeps_the_very_object(self) -> None:
        for original in (flow(), dag()):
            registry = registry_of(original)
            assert registry.get_flow("f") is original
            assert registry.get_flow("f", version="1.0") is original

    def test_returns_nothing(self) -> None:
        assert FlowRegistry().register_flow(flow()) is None  # type: ignore[func-returns-value]

    def test_len_registry_counts_versions_and_repr_shows_sorted_unique_names(self) -> None:
        registry = registry_of(flow("b"), flow("a", "1"), flow("a", "2"))
        assert len(registry) == 3
        assert repr(registry) == "FlowRegistry(flows=['a', 'b'])"

    def test_repr_and_len_of_an_empty_registry(self) -> None:
        assert repr(FlowRegistry()) == "FlowRegistry(flows=[])"
        assert len(FlowRegistry()) == 0

    def test_g_1_tells_versions_apart_by_their_text(self) -> None:
        registry = registry_of(flow(version="1.0"), flow(version="1.0.0"))
        assert len(registry) == 2
        assert registry.get_flow("f", version="1.0").version == "1.0"

    def test_g_1_keeps_both_kinds_of_flows_under_one_name(self) -> None:
        first, second = flow(version="1"), dag(version="2")
        registry = registry_of(first, second)
        assert registry.store.list_keys() == [("f", "1"), ("f", "2")]
        assert [registry.get_flow("f", version=version) for version in ("1", "2")] == [first, second]
        assert get_args(AnyFlow) == (Flow, DAGFlow)

    def test_register_flow_replaces_a_flow_when_asked_to(self) -> None:
        replacement = flow(description="new")
        registry = registry_of(flow())
        registry.register_flow(replacement, overwrite=True)
        assert registry.get_flow("f") is replacement
        assert len(registry) == 1

    def test_register_flow_may_overwrite_what_is_not_there(self) -> None:
        registry = FlowRegistry()
        registry.register_flow(flow(), overwrite=True)
        assert len(registry) == 1

    @pytest.mark.parametrize(
        "version", ["1", "1.0.0", "2024.1", "1.0a1", "1.0.post2", "1.0.dev3", "1!2.0", "1.0+local"]
    )
    def test_g_2_accepts_pep_440_versions(self, version: str) -> None:
        assert registry_of(flow(version=version)).get_flow("f").version == version

    @pytest.mark.parametrize("version", ["", "one", "1.0-beta-x", "1..0", "latest"])
    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("make", [flow, dag])
    def test_g_2_rejects_other_versions(self, version: str, overwrite: bool, make: Any) -> None:
        registry = registry_of(flow(), flow("g"))
        before = contents(registry)
        with pytest.raises(InvalidFlowVersionError) as caught:
            registry.register_flow(make("f", version), overwrite=overwrite)
        assert (caught.value.flow_name, caught.value.version) == ("f", version)
        assert contents(registry) == before

    @pytest.mark.parametrize(("depends_on", "reason"), [(["a"], "cycle"), (["x"], "unknown_dependency")])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_g_2_d_2_rejects_a_dag_with_a_wrong_topology(
        self, depends_on: list[str], reason: str, overwrite: bool
    ) -> None:
        registry = registry_of(dag())
        before = contents(registry)
        for version in ("1.0", "2.0"):
            with pytest.raises(DAGDefinitionError) as caught:
                registry.register_flow(dag(version=version, depends_on=depends_on), overwrite=overwrite)
            assert caught.value.reason == reason
            assert contents(registry) == before

    @pytest.mark.parametrize("make", [flow, dag])
    def test_g_2_rejects_an_existing_name_and_version(self, make: Any) -> None:
        registry = registry_of(flow(), flow(version="0.5"))
        before = contents(registry)
        with pytest.raises(FlowAlreadyExistsError) as caught:
            registry.register_flow(make())
        assert caught.value.flow_name == "f"
        assert contents(registry) == before

    def test_g_2_checks_the_version_before_the_topology_before_the_name(self) -> None:
        registry = registry_of(dag(), dag("g"))
        with pytest.raises(InvalidFlowVersionError):
            registry.register_flow(dag(version="bad", depends_on=["a"]))
        with pytest.raises(DAGDefinitionError):
            registry.register_flow(dag(depends_on=["a"]))
        with pytest.raises(FlowAlreadyExistsError):
            registry.register_flow(dag())


class TestLatestVersion:
    @pytest.mark.parametrize(
        ("versions", "latest"),
        [
            (["1.0", "2.0"], "2.0"),
            (["2.0", "1.0"], "2.0"),
            (["1.9", "1.10"], "1.10"),
            (["1.10", "1.9"], "1.10"),
            (["1.0", "1.0rc1"], "1.0"),
            (["1.0rc1", "1.0"], "1.0"),
            (["1.0", "1.0.post1"], "1.0.post1"),
            (["9.0", "1!1.0"], "1!1.0"),
            (["1.0", "1.0.0"], "1.0.0"),
            (["1.0.0", "1.0"], "1.0"),
        ],
    )
    def test_g_3_is_the_greatest_by_pep_440_and_the_later_one_of_equals(self, versions: list[str], latest: str) -> None:
        registry = registry_of(*(flow(version=version) for version in versions))
        assert registry.get_flow("f").version == latest

    def test_g_3_is_found_in_a_store_that_is_already_filled(self) -> None:
        store = InMemoryStore()
        for name, version in [("f", "1.10"), ("f", "1.9"), ("g", "0.1")]:
            store.save_flow(flow(name, version))
        registry = FlowRegistry(store)
        assert registry.get_flow("f").version == "1.10"
        assert registry.get_flow("g").version == "0.1"
        assert len(registry) == 3

    def test_cannot_be_found_in_a_store_with_a_wrong_version(self) -> None:
        store = InMemoryStore()
        store.save_flow(flow(version="bad"))
        with pytest.raises(InvalidFlowVersionError):
            FlowRegistry(store)

    def test_g_3_belongs_to_one_name(self) -> None:
        registry = registry_of(flow("f", "1.0"), flow("g", "9.0"))
        assert registry.get_flow("f").version == "1.0"


class TestLookingUp:
    @pytest.mark.parametrize("version", [None, "1.0"])
    def test_get_flow_of_an_unknown_name_fails(self, version: str | None) -> None:
        with pytest.raises(FlowNotFoundError) as caught:
            registry_of(flow()).get_flow("g", version=version)
        assert (caught.value.flow_name, caught.value.version) == ("g", version)
        assert ("version" in str(caught.value)) is (version is not None)

    def test_get_flow_of_an_unknown_version_fails(self) -> None:
        with pytest.raises(FlowNotFoundError) as caught:
            registry_of(flow()).get_flow("f", version="2.0")
        assert (caught.value.flow_name, caught.value.version) == ("f", "2.0")

    def test_a_flow_deleted_from_the_store_is_not_found(self) -> None:
        registry = registry_of(flow())
        registry.store.delete_flow("f", "1.0")
        with pytest.raises(FlowNotFoundError) as caught:
            registry.get_flow("f")
        assert caught.value.version is None

    def test_list_flow_versions_gives_the_oldest_first(self) -> None:
        versions = ["1.10", "1.9", "2.0rc1", "2.0", "0.1"]
        registry = registry_of(*(flow(version=version) for version in versions), flow("g", "7"))
        assert registry.list_flow_versions("f") == ["0.1", "1.9", "1.10", "2.0rc1", "2.0"]

    def test_list_flow_versions_of_an_unknown_name_fails(self) -> None:
        with pytest.raises(FlowNotFoundError) as caught:
            registry_of(flow()).list_flow_versions("g")
        assert (caught.value.flow_name, caught.value.version) == ("g", None)


STATES = [
    flow("b", "1", status=FlowStatus.DISABLED),
    flow("a", "2", status=FlowStatus.NEEDS_REVIEW),
    flow("a", "10"),
    flow("c", "1"),
]


class TestListing:
    @pytest.mark.parametrize(
        ("filters", "keys"),
        [
            ({}, [("a", "10"), ("a", "2"), ("b", "1"), ("c", "1")]),
            ({"status": FlowStatus.ACTIVE}, [("a", "10"), ("c", "1")]),
            ({"status": FlowStatus.DISABLED}, [("b", "1")]),
            ({"exclude_status": {FlowStatus.ACTIVE}}, [("a", "2"), ("b", "1")]),
            ({"exclude_status": {FlowStatus.ACTIVE, FlowStatus.DISABLED}}, [("a", "2")]),
            ({"exclude_status": set()}, [("a", "10"), ("a", "2"), ("b", "1"), ("c", "1")]),
            ({"status": FlowStatus.ACTIVE, "exclude_status": {FlowStatus.DISABLED}}, [("a", "10"), ("c", "1")]),
            ({"status": FlowStatus.ACTIVE, "exclude_status": {FlowStatus.ACTIVE}}, []),
        ],
    )
    def test_g_6_list_flows_gives_every_version_in_key_order(
        self, filters: dict[str, Any], keys: list[tuple[str, str]]
    ) -> None:
        assert [(each.name, each.version) for each in registry_of(*STATES).list_flows(**filters)] == keys

    def test_get_active_flows_gives_the_active_ones(self) -> None:
        assert registry_of(*STATES).get_active_flows() == [STATES[2], STATES[3]]

    def test_list_flows_and_get_active_flows_of_nothing_is_empty(self) -> None:
        assert FlowRegistry().list_flows() == []
        assert FlowRegistry().get_active_flows() == []

    @pytest.mark.parametrize(
        ("intent", "found"),
        [
            ("price", ("lookup", "1")),
            ("PRICE", ("lookup", "1")),
            ("Check", ("check_stock", "1")),
            ("ware", ("check_stock", "1")),
            ("", ("check_stock", "1")),
            ("stock of price", None),
            ("weather", None),
        ],
    )
    def test_match_flow_by_intent_looks_in_name_and_description(
        self, intent: str, found: tuple[str, str] | None
    ) -> None:
        registry = registry_of(
            flow("zzz", "1", description="Price again"),
            flow("lookup", "2", description="Find a Price, newer"),
            flow("lookup", "1", description="Find a Price"),
            flow("check_stock", "1", description="Ask the WAREHOUSE"),
        )
        match = registry.match_flow_by_intent(intent)
        assert (None if match is None else (match.name, match.version)) == found


class TestStateChanges:
    def test_g_9_k_5_update_flow_state_replaces_the_flow_by_a_changed_copy(self) -> None:
        original = flow(tool_schema_hashes={"t": "old"})
        registry = registry_of(original)
        changed = registry.update_flow_state("f", status=FlowStatus.NEEDS_REVIEW, tool_schema_hashes={"t": "new"})
        assert registry.get_flow("f") is changed
        assert changed == original.model_copy(
            update={"status": FlowStatus.NEEDS_REVIEW, "tool_schema_hashes": {"t": "new"}}
        )
        assert original == flow(tool_schema_hashes={"t": "old"})
        assert len(registry) == 1

    def test_g_9_keep_the_kind_of_flow(self) -> None:
        registry = registry_of(dag())
        assert type(registry.update_flow_state("f", status=FlowStatus.DISABLED)) is DAGFlow

    def test_g_9_leave_the_hashes_when_they_are_omitted(self) -> None:
        registry = registry_of(flow(tool_schema_hashes={"t": "old"}))
        assert registry.update_flow_state("f", status=FlowStatus.DISABLED).tool_schema_hashes == {"t": "old"}

    def test_g_9_clear_the_hashes_when_they_are_none(self) -> None:
        registry = registry_of(flow(tool_schema_hashes={"t": "old"}, status=FlowStatus.DISABLED))
        changed = registry.update_flow_state("f", tool_schema_hashes=None)
        assert changed.tool_schema_hashes is None
        assert changed.status is FlowStatus.DISABLED

    def test_do_not_follow_the_caller_s_dict(self) -> None:
        registry = registry_of(flow())
        hashes = {"t": "new"}
        registry.update_flow_state("f", tool_schema_hashes=hashes)
        hashes["t"] = "later"
        assert registry.get_flow("f").tool_schema_hashes == {"t": "new"}

    def test_g_9_without_a_change_return_the_stored_object_and_save_nothing(self) -> None:
        saved: list[str] = []

        class CountingStore(InMemoryStore):
            def save_flow(self, flow: AnyFlow, *, overwrite: bool = False) -> None:
                saved.append(flow.version)
                super().save_flow(flow, overwrite=overwrite)

        registry = FlowRegistry(CountingStore())
        original = flow()
        registry.register_flow(original)
        assert registry.update_flow_state("f") is original
        assert saved == ["1.0"]
        registry.update_flow_state("f", status=FlowStatus.ACTIVE)
        assert saved == ["1.0", "1.0"]

    def test_g_9_are_saved_in_a_store_of_files(self, tmp_path: Path) -> None:
        registry = FlowRegistry(FileStore(tmp_path))
        registry.register_flow(flow(tool_schema_hashes={"t": "old"}))
        handed_out = registry.get_flow("f")
        changed = registry.update_flow_state("f", status=FlowStatus.DISABLED, tool_schema_hashes=None)
        assert (changed.status, changed.tool_schema_hashes) == (FlowStatus.DISABLED, None)
        assert FlowRegistry(FileStore(tmp_path)).get_flow("f") == changed
        assert handed_out == flow(tool_schema_hashes={"t": "old"})

    @pytest.mark.parametrize(("version", "changed"), [(None, "2.0"), ("1.0", "1.0"), ("2.0", "2.0")])
    def test_g_9_apply_to_the_latest_or_the_named_version(self, version: str | None, changed: str) -> None:
        registry = registry_of(flow(version="2.0"), flow(version="1.0"))
        registry.update_flow_state("f", version=version, status=FlowStatus.DISABLED)
        assert [each.version for each in registry.list_flows(status=FlowStatus.DISABLED)] == [changed]
        assert registry.get_flow("f").version == "2.0"

    @pytest.mark.parametrize(("name", "version"), [("g", None), ("f", "9.0")])
    def test_update_flow_state_and_set_flow_status_of_an_unknown_flow_fail(
        self, name: str, version: str | None
    ) -> None:
        registry = registry_of(flow())
        before = contents(registry)
        with pytest.raises(FlowNotFoundError):
            registry.update_flow_state(name, version=version, status=FlowStatus.DISABLED)
        with pytest.raises(FlowNotFoundError):
            registry.set_flow_status(name, FlowStatus.DISABLED, version=version)
        assert contents(registry) == before

    @pytest.mark.parametrize("status", FlowStatus)
    def test_set_flow_status_changes_the_status_and_returns_nothing(self, status: FlowStatus) -> None:
        original = flow(version="1.0")
        registry = registry_of(original, flow(version="2.0"))
        assert registry.set_flow_status("f", status, version="1.0") is None  # type: ignore[func-returns-value]
        assert registry.get_flow("f", version="1.0").status is status
        assert original.status is FlowStatus.ACTIVE
        registry.set_flow_status("f", status)
        assert registry.get_flow("f").status is status


class TestStore:
    def test_store_property_is_a_fresh_in_memory_store_by_default(self) -> None:
        first, second = FlowRegistry(), FlowRegistry()
        assert isinstance(first.store, InMemoryStore)
        first.register_flow(flow())
        assert len(second) == 0

    def test_store_property_is_the_given_store_even_when_empty(self) -> None:
        store = InMemoryStore()
        registry = FlowRegistry(store)
        assert registry.store is store
        registry.register_flow(flow())
        assert store.list_keys() == [("f", "1.0")]

    def test_store_property_cannot_be_replaced(self) -> None:
        with pytest.raises(AttributeError):
            FlowRegistry().store = InMemoryStore()  # type: ignore[misc]

    def test_protocol_can_be_checked_at_run_time(self) -> None:
        assert isinstance(InMemoryStore(), RegistryStore)
        assert not isinstance({}, RegistryStore)

    def test_keeps_the_very_objects(self) -> None:
        store, original = InMemoryStore(), flow()
        store.save_flow(original)
        assert store.load_flow("f", "1.0") is original
        assert len(store) == 1

    def test_overwrites_only_when_asked_to(self) -> None:
        store, original, replacement = InMemoryStore(), flow(), flow(description="new")
        store.save_flow(original)
        with pytest.raises(FlowAlreadyExistsError) as caught:
            store.save_flow(replacement)
        assert caught.value.flow_name == "f"
        assert store.load_flow("f", "1.0") is original
        store.save_flow(replacement, overwrite=True)
        assert store.load_flow("f", "1.0") is replacement
        assert len(store) == 1

    def test_lists_its_keys_sorted_as_texts(self) -> None:
        store = InMemoryStore()
        for name, version in [("b", "1"), ("a", "2"), ("a", "10")]:
            store.save_flow(flow(name, version))
        assert store.list_keys() == [("a", "10"), ("a", "2"), ("b", "1")]

    @pytest.mark.parametrize(
        ("name", "version", "there"), [("f", "1.0", True), ("f", "2.0", False), ("g", "1.0", False)]
    )
    def test_knows_what_it_has(self, name: str, version: str, there: bool) -> None:
        store = InMemoryStore()
        store.save_flow(flow())
        assert store.has_flow(name, version) is there

    def test_deletes(self) -> None:
        store = InMemoryStore()
        store.save_flow(flow())
        store.delete_flow("f", "1.0")
        assert not store.has_flow("f", "1.0")
        assert len(store) == 0

    @pytest.mark.parametrize("method", ["load_flow", "delete_flow"])
    @pytest.mark.parametrize(("name", "version"), [("f", "2.0"), ("g", "1.0")])
    def test_reports_a_missing_flow_with_its_version(self, method: str, name: str, version: str) -> None:
        store = InMemoryStore()
        store.save_flow(flow())
        with pytest.raises(FlowNotFoundError) as caught:
            getattr(store, method)(name, version)
        assert (caught.value.flow_name, caught.value.version) == (name, version)
        assert store.list_keys() == [("f", "1.0")]


def test_g_8_many_threads_may_read_at_once() -> None:
    registry = registry_of(*(flow(f"f{index}", "1.0") for index in range(50)))
    start = threading.Barrier(4)
    results: list[bool] = []

    def read() -> None:
        start.wait()
        for _ in range(20):
            flows = registry.list_flows()
            results.append(
                len(flows) == len(registry) == 50
                and all(registry.get_flow(each.name) is each for each in flows)
                and all(registry.list_flow_versions(each.name) == ["1.0"] for each in flows)
                and registry.get_active_flows() == flows
                and registry.match_flow_by_intent("F49") is registry.get_flow("f49")
            )

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80
