"""The rules of ports.StateStore, asked of every store; and what a file adds to them."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rejeu.errors import RequestError, StateConflictError, StateError
from rejeu.ports import StateStore, Versioned
from rejeu.state import open_store
from rejeu.state.memory import MemoryStore
from rejeu.state.sqlite import SqliteStore

PLUGINS = Path(__file__).parents[2] / "plugins"
WRITERS, WRITES = 4, 25
DOCUMENT: dict[str, Any] = {
    "stream": "clicks",
    "cursor": {"event_us": 2**60, "count": 0},
    "request": ["--é", None, 1.5],
}

COUNT = """
import sys
from rejeu.errors import StateConflictError
from rejeu.state.sqlite import SqliteStore

path, writes = sys.argv[1:]
store = SqliteStore(path)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(writes)):
    while True:
        found = store.load("count")
        try:
            store.save("count", {"n": found.document["n"] + 1 if found else 1}, found.version if found else None)
            break
        except StateConflictError:
            continue
"""


@pytest.fixture(params=[MemoryStore, SqliteStore])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    make: Callable[..., StateStore] = request.param
    return make(tmp_path / "state.db") if make is SqliteStore else make()


# Every store


def test_what_was_never_saved_is_none(store: StateStore) -> None:
    assert store.load("clicks") is None
    assert store.names() == []


def test_a_document_comes_back_as_it_was_saved(store: StateStore) -> None:
    version = store.save("clicks", DOCUMENT, None)
    assert store.load("clicks") == Versioned(DOCUMENT, version)


def test_every_write_gives_another_version(store: StateStore) -> None:
    version = store.save("clicks", {"n": 1}, None)
    versions = [version, *(version := store.save("clicks", {"n": n}, version) for n in range(3))]
    assert len(set(versions)) == 4
    assert store.load("clicks") == Versioned({"n": 2}, version)


def test_a_write_at_an_old_version_is_refused_and_changes_nothing(store: StateStore) -> None:
    old = store.save("clicks", {"n": 1}, None)
    new = store.save("clicks", {"n": 2}, old)
    with pytest.raises(StateConflictError) as caught:
        store.save("clicks", {"n": 3}, old)
    assert str(caught.value) == f"state of clicks is no longer at version {old}: read it again"
    assert store.load("clicks") == Versioned({"n": 2}, new)


def test_a_first_write_is_refused_where_there_is_a_document(store: StateStore) -> None:
    store.save("clicks", {"n": 1}, None)
    with pytest.raises(StateConflictError):
        store.save("clicks", {"n": 2}, None)


def test_a_later_write_is_refused_where_there_is_no_document(store: StateStore) -> None:
    with pytest.raises(StateConflictError):
        store.save("clicks", {"n": 1}, 1)
    assert store.load("clicks") is None


def test_documents_are_apart_and_their_names_sorted(store: StateStore) -> None:
    for name in ("views", "clicks", "Bikes", "é"):
        store.save(name, {"name": name}, None)
    assert store.names() == ["Bikes", "clicks", "views", "é"]
    found = store.load("clicks")
    assert found is not None
    assert found.document == {"name": "clicks"}


def test_what_is_done_to_a_document_afterwards_stays_outside(store: StateStore) -> None:
    mine: dict[str, Any] = {"request": ["a"]}
    store.save("clicks", mine, None)
    mine["request"].append("b")
    found = store.load("clicks")
    assert found is not None
    found.document["request"].append("c")
    again = store.load("clicks")
    assert again is not None
    assert again.document == {"request": ["a"]}


def test_of_many_threads_that_write_at_once_none_is_lost(store: StateStore) -> None:
    def count(_: int) -> None:
        for _ in range(WRITES):
            while True:
                found = store.load("count")
                try:
                    document = {"n": found.document["n"] + 1 if found else 1}
                    store.save("count", document, found.version if found else None)
                    break
                except StateConflictError:
                    continue

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(count, range(WRITERS)))
    found = store.load("count")
    assert found is not None
    assert found.document == {"n": WRITERS * WRITES}


# In a file


def test_of_many_processes_that_open_and_write_at_once_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.db"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, path, str(WRITES)],
            env=os.environ | {"PYTHONPATH": str(PLUGINS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    ended = [(*writer.communicate("go\n"), writer.returncode) for writer in writers]
    assert ended == [("", "", 0)] * WRITERS
    found = SqliteStore(path).load("count")
    assert found is not None
    assert found.document == {"n": WRITERS * WRITES}


def test_many_threads_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    def open_and_look(number: int) -> list[str]:
        return SqliteStore(tmp_path / f"{number % 5}.db").names()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(open_and_look, range(40))) == [[]] * 40


def test_a_file_is_found_again_by_another_store(tmp_path: Path) -> None:
    version = SqliteStore(tmp_path / "state.db").save("clicks", DOCUMENT, None)
    assert SqliteStore(tmp_path / "state.db").load("clicks") == Versioned(DOCUMENT, version)


def test_the_folders_of_a_file_are_made(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "deep" / "er" / "state.db").save("clicks", {}, None)
    assert (tmp_path / "deep" / "er" / "state.db").is_file()


def test_a_folder_that_cannot_be_made_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError) as caught:
        SqliteStore(tmp_path / "file" / "deeper" / "state.db")
    assert "its folder cannot be made (Not a directory)" in str(caught.value)


def test_a_path_that_is_no_file_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        SqliteStore(tmp_path)
    assert str(caught.value) == (
        f"state store {tmp_path}: unable to open database file. Check that the path is a writable file"
    )


def test_a_file_of_another_kind_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("stream: clicks\n" * 100, encoding="utf-8")
    with pytest.raises(StateError, match="file is not a database"):
        SqliteStore(tmp_path / "state.db")


def test_a_file_that_goes_away_is_a_state_error_and_no_conflict(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    for file in tmp_path.iterdir():
        file.unlink()
    for use in (lambda: store.load("clicks"), lambda: store.save("clicks", {}, None), store.names):
        with pytest.raises(StateError) as caught:
            use()
        assert not isinstance(caught.value, StateConflictError)


# By its URI


def test_a_uri_names_the_store(tmp_path: Path) -> None:
    open_store(f"sqlite:{tmp_path}/state.db").save("clicks", {}, None)
    assert SqliteStore(tmp_path / "state.db").names() == ["clicks"]


def test_without_a_uri_each_replay_remembers_for_itself() -> None:
    open_store(None).save("clicks", {}, None)
    assert open_store(None).names() == []


@pytest.mark.parametrize("uri", ["", "sqlite:", "gs://bucket/state", "state.db", "redis:here"])
def test_a_uri_that_names_no_store_is_refused(uri: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_store(uri)
    assert str(caught.value) == f"state store {uri!r} is not known: write sqlite:PATH"
