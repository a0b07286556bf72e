"""A registry store on disk: one JSON file for each flow. What every store does, `test_testing_suites.py` asks of it."""

import errno
import json
import multiprocessing
import os
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

import doubleweave as dw
from doubleweave import FileStore, FlowRegistry
from executors_under_test import execute, lanes
from flow_files_under_test import FULL
from lanes_under_test import number_tool


def flow(name: str = "f", version: str = "1.0", **fields: Any) -> dw.Flow:
    return dw.Flow(name=name, version=version, steps=[dw.FlowStep(tool_name="t")], **{"description": "d", **fields})


def adding(name: str, number: int) -> dw.Tool:
    return number_tool(name, lambda v: {"n": v.n + number})


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "deep" / "flows")


def names_in(store: FileStore) -> list[str]:
    return sorted(path.name for path in store.base_dir.iterdir())


def test_the_medium_is_one_json_file_for_each_flow_in_a_folder_made_with_its_parents(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "a" / "b"))
    assert isinstance(store, dw.RegistryStore)
    assert store.base_dir == tmp_path / "a" / "b"
    assert store.base_dir.is_dir()
    store.save_flow(FULL)
    assert names_in(store) == ["full@1.2.flow.json"]
    assert (store.base_dir / "full@1.2.flow.json").read_text() == dw.flow_to_json(FULL)
    assert store.load_flow("full", "1.2") == FULL
    assert FileStore(store.base_dir).load_flow("full", "1.2") == FULL


def test_save_existing_without_overwrite_is_refused_and_the_length_is_the_number_of_flows(store: FileStore) -> None:
    assert len(store) == 0
    store.save_flow(flow())
    store.save_flow(flow(version="2"))
    with pytest.raises(dw.FlowAlreadyExistsError, match=r"^Flow 'f' is already registered\.$"):
        store.save_flow(flow(description="new"))
    assert store.load_flow("f", "1.0").description == "d"
    store.save_flow(flow(description="new"), overwrite=True)
    assert store.load_flow("f", "1.0").description == "new"
    assert len(store) == 2


def test_load_or_delete_missing_names_the_version(store: FileStore) -> None:
    for act in (store.load_flow, store.delete_flow):
        with pytest.raises(dw.FlowNotFoundError) as caught:
            act("f", "1.0")
        assert (caught.value.flow_name, caught.value.version) == ("f", "1.0")
    store.save_flow(flow())
    store.delete_flow("f", "1.0")
    assert names_in(store) == []


ROUNDS = 20


def no_hard_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def save_each_version(base_dir: Path, own_name: str, hard_links: bool, both_ready: Barrier) -> None:
    """Save a flow in many versions, each at the same time as another process; leave a file that lists those it saved."""
    if not hard_links:
        os.link = no_hard_links
    store, saved = FileStore(base_dir), []
    for version in map(str, range(ROUNDS)):
        both_ready.wait(60)
        try:
            store.save_flow(flow(version=version, description=own_name * 10_000))
        except dw.FlowAlreadyExistsError:
            continue
        saved.append(version)
    (base_dir / own_name).write_text(json.dumps(saved))


@pytest.mark.parametrize("hard_links", [True, False])
def test_save_existing_without_overwrite_is_refused_to_all_but_one_of_several_processes(
    store: FileStore, hard_links: bool
) -> None:
    spawning = multiprocessing.get_context("spawn")
    both_ready = spawning.Barrier(2)
    processes = [
        spawning.Process(target=save_each_version, args=(store.base_dir, name, hard_links, both_ready)) for name in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
        process.close()
    saved_by = {name: json.loads((store.base_dir / name).read_text()) for name in "ab"}
    assert sorted(saved_by["a"] + saved_by["b"], key=int) == [str(number) for number in range(ROUNDS)]
    for name, versions in saved_by.items():
        for version in versions:
            assert store.load_flow("f", version) == flow(version=version, description=name * 10_000)
    assert len(names_in(store)) == ROUNDS + 2


@pytest.mark.parametrize("hard_links", [True, False])
def test_p_2_a_first_save_leaves_the_whole_file_and_no_other(
    store: FileStore, hard_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hard_links:
        monkeypatch.setattr(os, "link", no_hard_links)
    store.save_flow(flow())
    for taken in ("file", "link to nowhere"):
        with pytest.raises(dw.FlowAlreadyExistsError, match=r"^Flow 'f' is already registered\.$"):
            store.save_flow(flow(description=taken))
        assert names_in(store) == ["f@1.0.flow.json"]
        if taken == "file":
            assert store.load_flow("f", "1.0") == flow()
            store.delete_flow("f", "1.0")
            (store.base_dir / "f@1.0.flow.json").symlink_to(store.base_dir / "nowhere")
    store.save_flow(flow(), overwrite=True)
    assert (store.base_dir / "f@1.0.flow.json").read_text() == dw.flow_to_json(flow())


def test_p_2_a_first_save_that_fails_leaves_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        assert (store.base_dir / "f@1.0.flow.json").read_text() == ""
        raise OSError("disk is full")

    monkeypatch.setattr(os, "link", no_hard_links)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        store.save_flow(flow())
    assert names_in(store) == []


BAD_NAMES = ["", "a/b", "../x", "a b", "a@b", "\u00e9", "a\n", "a\x00", "a\\b", "a:b", "\u202e", "x" * 250]
BAD_VERSIONS = ["1/2", "1\\2", "1@2", "/", "1\x00", "1\n", "", "\ud800"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_p_1_a_name_that_is_not_safe_is_refused(store: FileStore, name: str) -> None:
    for act in (store.load_flow, store.delete_flow, lambda name, _: store.save_flow(flow(name))):
        with pytest.raises(dw.FlowSerializationError, match="is not safe for a file name: "):
            act(name, "1.0")
    assert store.has_flow(name, "1.0") is False
    assert names_in(store) == []


@pytest.mark.parametrize("version", BAD_VERSIONS)
def test_p_1_a_version_with_a_reserved_character_is_refused(store: FileStore, version: str) -> None:
    for act in (store.load_flow, store.delete_flow, lambda _, version: store.save_flow(flow(version=version))):
        with pytest.raises(dw.FlowSerializationError, match=r"of flow 'f' is empty or has what is reserved: / \\ @, "):
            act("f", version)
    assert store.has_flow("f", version) is False
    assert names_in(store) == []


@pytest.mark.parametrize(
    ("name", "version"),
    [("A-b_c.9", "1!2.0+local"), ("..", "1"), (".", "1"), (".hidden", "1.0.dev1"), ("x" * 200, "1 0")],
)
def test_p_1_every_other_name_and_version_has_a_file(store: FileStore, name: str, version: str) -> None:
    store.save_flow(flow(name, version))
    assert names_in(store) == [f"{name}@{version}.flow.json"]
    assert store.list_keys() == [(name, version)]
    assert store.has_flow(name, version)
    assert store.load_flow(name, version) == flow(name, version)


def test_p_2_a_save_that_fails_leaves_the_old_file_and_no_other(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save_flow(flow())
    replaced: list[tuple[Path, Path]] = []

    def fail(source: Any, target: Any) -> None:
        replaced.append((Path(source), Path(target)))
        assert Path(source).read_text() == dw.flow_to_json(flow(description="new"))
        raise OSError("disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        store.save_flow(flow(description="new"), overwrite=True)
    ((source, target),) = replaced
    assert source.parent == target.parent == store.base_dir
    assert target.name == "f@1.0.flow.json"
    assert names_in(store) == ["f@1.0.flow.json"]
    assert store.load_flow("f", "1.0").description == "d"


def test_p_2_who_reads_while_a_flow_is_saved_sees_the_old_or_the_new_one(store: FileStore) -> None:
    texts = {"a" * 20_000, "b" * 20_000}
    store.save_flow(flow(description=min(texts)))
    stop = threading.Event()

    def save() -> None:
        while not stop.is_set():
            for text in texts:
                store.save_flow(flow(description=text), overwrite=True)

    thread = threading.Thread(target=save)
    thread.start()
    try:
        seen = {store.load_flow("f", "1.0").description for _ in range(300)}
        listed = {tuple(store.list_keys()) for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert seen <= texts
    assert listed == {(("f", "1.0"),)}


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"{", "Invalid JSON: "),
        (b"\xff", "Invalid JSON: it is not UTF-8"),
        (b"[]", "Expected a mapping at the top level, found list"),
        (dw.flow_to_json(flow("g")).encode(), "the file holds 'g@1.0' and not the flow that its name says"),
        (dw.flow_to_json(flow(version="2")).encode(), "the file holds 'f@2' and not the flow that its name says"),
        (b" " * 5_242_881, "max_bytes=5242880"),
    ],
    ids=range(6),
)
def test_p_3_a_file_that_is_refused_is_named(store: FileStore, content: bytes, fragment: str) -> None:
    path = store.base_dir / "f@1.0.flow.json"
    path.write_bytes(content)
    with pytest.raises(dw.FlowSerializationError) as caught:
        store.load_flow("f", "1.0")
    assert caught.value.source == str(path)
    assert "f@1.0" in str(caught.value)
    assert fragment in caught.value.detail
    assert store.has_flow("f", "1.0")
    store.save_flow(flow(), overwrite=True)
    assert store.load_flow("f", "1.0") == flow()


def test_p_3_what_is_no_regular_file_is_refused_without_waiting(store: FileStore) -> None:
    os.mkfifo(store.base_dir / "f@1.0.flow.json")
    with pytest.raises(dw.FlowSerializationError, match="it is not a regular file"):
        store.load_flow("f", "1.0")


def test_p_4_other_files_and_directories_are_not_listed(store: FileStore) -> None:
    store.save_flow(flow("b"))
    store.save_flow(flow("a", "2"))
    for name in (
        "notes.txt",
        "f.flow.json",
        "@1.flow.json",
        "f@.flow.json",
        "f@1@2.flow.json",
        "f@1.flow.yaml",
        "F@1.FLOW.JSON",
    ):
        (store.base_dir / name).write_text("{}")
    (store.base_dir / "a b@1.flow.json").write_text("{}")
    (store.base_dir / "dir@1.flow.json").mkdir()
    assert store.list_keys() == [("a", "2"), ("b", "1.0")]
    assert len(store) == 2
    assert not store.has_flow("dir", "1")


def test_p_5_a_registry_over_a_populated_store_finds_all_flows_and_their_latest_versions(store: FileStore) -> None:
    first = FlowRegistry(store)
    for version in ("1.9", "1.10", "1.2"):
        first.register_flow(flow("f", version))
    first.register_flow(FULL)
    first.set_flow_status("f", dw.FlowStatus.DISABLED)
    second = FlowRegistry(FileStore(store.base_dir))
    assert len(second) == 4
    assert second.list_flow_versions("f") == ["1.2", "1.9", "1.10"]
    assert second.get_flow("f").version == "1.10"
    assert second.get_flow("f").status is dw.FlowStatus.DISABLED
    assert second.get_flow("full") == FULL
    assert FlowRegistry(FileStore(store.base_dir.parent / "empty")).list_flows() == []


def test_a_flow_that_could_not_be_loaded_again_is_not_saved(store: FileStore) -> None:
    many = flow(description="x" * 100_001)
    with pytest.raises(dw.FlowSerializationError, match="max_string_length=100000") as caught:
        store.save_flow(many)
    assert caught.value.source == str(store.base_dir / "f@1.0.flow.json")
    with pytest.raises(dw.FlowSerializationError, match="is a set, which JSON does not give back"):
        store.save_flow(flow(trigger_conditions={"x": {1}}))
    assert names_in(store) == []
    wide = FileStore(store.base_dir, limits=dw.FlowParseLimits(max_string_length=None))
    wide.save_flow(many)
    assert wide.load_flow("f", "1.0") == many
    with pytest.raises(dw.FlowSerializationError, match="max_string_length=100000"):
        store.load_flow("f", "1.0")


def test_unknown_keys_of_a_file_do_no_harm(store: FileStore) -> None:
    data = {**dw.flow_to_dict(flow()), "comment": "by hand"}
    (store.base_dir / "f@1.0.flow.json").write_text(json.dumps(data))
    assert store.load_flow("f", "1.0") == flow()


@lanes
def test_an_executor_runs_flows_out_of_files_and_sees_a_new_version_at_once(store: FileStore, lane: str) -> None:
    registry = FlowRegistry(store)
    registry.register_flow(flow())
    executor = dw.FlowExecutor(registry)
    for name, add in (("t", 1), ("u", 10)):
        executor.register_tool(adding(name, add))
    assert execute(executor, lane, {"n": 1}, "f").final_output == {"n": 2}
    registry.register_flow(flow(version="1.1").model_copy(update={"steps": [dw.FlowStep(tool_name="u")]}))
    assert execute(executor, lane, {"n": 1}, "f").final_output == {"n": 11}
    changed = dw.Flow(
        name="f", version="1.1", description="", steps=[dw.FlowStep(tool_name="u"), dw.FlowStep(tool_name="t")]
    )
    FileStore(store.base_dir).save_flow(changed, overwrite=True)
    assert execute(executor, lane, {"n": 1}, "f").final_output == {"n": 12}
