"""The rules of ports.StateStore, asked of every store; and what a file and a bucket add to them."""

import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rejeu.errors import RequestError, StateConflictError, StateError
from rejeu.ports import StateStore, Versioned
from rejeu.state import Rhythm, documents, gcs, open_store, rhythm, sqlite
from rejeu.state.gcs import GcsStore
from rejeu.state.memory import MemoryStore
from rejeu.state.sqlite import SqliteStore
from tests.fakes.storage_server import BUCKET, FIRST_GENERATION, PAGE, Fault, Object, StorageServer
from tests.paths import PLUGINS

WRITERS, WRITES = 4, 25
DOCUMENT: dict[str, Any] = {
    "stream": "clicks",
    "cursor": {"event_us": 2**60, "count": 0},
    "request": ["--é", None, 1.5],
}

BROKEN = [
    (b"", r"it is not JSON \("),
    (b'{"stream": "cl', r"it is not JSON \("),
    (b"\xff", r"it is not JSON \("),
    (b"[" * 100_000, r"it is not JSON \(maximum recursion"),
    (b'{"n": ' + b"9" * 5_000 + b"}", r"it is not JSON \(Exceeds the limit"),
    (b"null", "it is a NoneType, and must be a JSON object"),
    (b'["clicks"]', "it is a list, and must be a JSON object"),
    (b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}", "more than 50 objects and lists"),
]
"""Texts that are no document, and what is said of each."""

SIGN = """
import sys
from rejeu.errors import StateConflictError
from rejeu.state import open_store

uri, writer, writes = sys.argv[1:]
store = open_store(uri)
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(writes)):
    signature = f"{writer}:{n}"
    while True:
        found = store.load("guests")
        signed = found.document["signed"] if found else []
        if signature in signed:  # a busy machine may lose an answer, and so meet what it wrote itself
            break
        try:
            store.save("guests", {"signed": [*signed, signature]}, found.version if found else None)
            break
        except StateConflictError:
            continue
"""


@pytest.fixture(params=["sqlite", "gs"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store that other processes can open too."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/new/state.db"
    request.getfixturevalue("cloud")
    return f"gs://{BUCKET}/state"


@pytest.fixture(params=["memory", "sqlite", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return SqliteStore(tmp_path / "state.db")
    request.getfixturevalue("cloud")
    return GcsStore(BUCKET, "state")


def _wins(store: StateStore, expected: int | None, document: dict[str, Any]) -> bool:
    """Whether this writer won the version."""
    try:
        store.save("clicks", document, expected)
    except StateConflictError:
        return False
    return True


def _written(folder: Path, body: bytes) -> SqliteStore:
    """A store whose document `clicks` has this text."""
    store = SqliteStore(folder / "state.db")
    with closing(sqlite3.connect(folder / "state.db")) as connection, connection:
        connection.execute("INSERT INTO document VALUES ('clicks', 1, ?)", (body,))
    return store


def uses(store: StateStore) -> list[Callable[[], object]]:
    """Everything that may be asked of a store."""
    return [
        lambda: store.load("clicks"),
        lambda: store.save("views", {}, None),
        lambda: store.remove("clicks", FIRST_GENERATION),
        store.names,
    ]


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


def test_a_document_that_is_removed_is_gone_and_may_be_made_anew(store: StateStore) -> None:
    store.save("views", {}, None)
    store.remove("clicks", store.save("clicks", {"n": 1}, None))
    assert store.load("clicks") is None
    assert store.names() == ["views"]
    store.save("clicks", {"n": 2}, None)
    assert store.names() == ["clicks", "views"]


def test_a_document_that_somebody_wrote_meanwhile_is_not_removed(store: StateStore) -> None:
    old = store.save("clicks", {"n": 1}, None)
    new = store.save("clicks", {"n": 2}, old)
    with pytest.raises(StateConflictError) as caught:
        store.remove("clicks", old)
    assert str(caught.value) == f"state of clicks is no longer at version {old}: read it again"
    assert store.load("clicks") == Versioned({"n": 2}, new)


def test_what_is_gone_cannot_be_removed_once_more(store: StateStore) -> None:
    version = store.save("clicks", {}, None)
    store.remove("clicks", version)
    with pytest.raises(StateConflictError):
        store.remove("clicks", version)


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


def test_of_many_that_write_at_one_version_one_wins(store: StateStore) -> None:
    version = None
    with ThreadPoolExecutor(WRITERS) as pool:
        for n in range(WRITES):
            documents = [{"n": n, "by": writer} for writer in range(WRITERS)]
            won = list(pool.map(partial(_wins, store, version), documents))
            found = store.load("clicks")
            assert found is not None
            assert [document for document, yes in zip(documents, won, strict=True) if yes] == [found.document]
            version = found.version


# Every store that processes share


@pytest.mark.slow
def test_of_many_processes_that_open_and_write_at_once_none_is_lost(uri: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SIGN, uri, str(writer), str(WRITES)],
            env=os.environ | {"PYTHONPATH": str(PLUGINS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for writer in range(WRITERS)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [(*process.communicate(), process.returncode) for process in processes]
    assert ended == [("", "", 0)] * WRITERS
    found = open_store(uri).load("guests")
    assert found is not None
    signatures = [f"{writer}:{n}" for writer in range(WRITERS) for n in range(WRITES)]
    assert sorted(found.document["signed"]) == sorted(signatures)


# In a file


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


def test_a_writer_that_others_wait_for_in_vain_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    store = SqliteStore(tmp_path / "state.db")
    with closing(sqlite3.connect(tmp_path / "state.db")) as paused:
        paused.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match=r"is locked\. Another process has been writing for 0.1 s: continue"):
            store.save("clicks", DOCUMENT, None)
    assert store.save("clicks", DOCUMENT, None) == 1


def test_a_file_of_another_kind_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("stream: clicks\n" * 100, encoding="utf-8")
    with pytest.raises(StateError, match="file is not a database"):
        SqliteStore(tmp_path / "state.db")


def test_a_file_that_goes_away_is_a_state_error_and_no_conflict(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db")
    for file in tmp_path.iterdir():
        file.unlink()
    for use in uses(store):
        with pytest.raises(StateError) as caught:
            use()
        assert not isinstance(caught.value, StateConflictError)


# In a bucket


def test_a_document_is_an_object_that_a_person_can_read(cloud: StorageServer) -> None:
    version = GcsStore(BUCKET, "state").save("clicks", DOCUMENT, None)
    written = cloud.objects[BUCKET]["state/clicks.json"]
    assert (json.loads(written.body), written.generation) == (DOCUMENT, version)


def test_a_load_and_a_save_cost_one_request_each(cloud: StorageServer) -> None:
    store = GcsStore(BUCKET, "state")
    store.save("clicks", {}, None)
    store.load("clicks")
    assert cloud.requests == ["POST state/clicks.json", "GET state/clicks.json"]


def test_a_bucket_holds_several_stores_and_other_objects(cloud: StorageServer) -> None:
    here, beside, below = (GcsStore(BUCKET, folder) for folder in ("state", "/state-2/", "state/old"))
    here.save("clicks", {"in": "state"}, None)
    beside.save("views", {}, None)
    below.save("bikes", {}, None)
    cloud.objects[BUCKET]["state/README.md"] = cloud.objects[BUCKET]["state/clicks.json"]
    cloud.objects[BUCKET]["report.json"] = cloud.objects[BUCKET]["state/clicks.json"]
    assert (here.names(), beside.names(), below.names()) == (["clicks"], ["views"], ["bikes"])


@pytest.mark.slow
def test_a_thousand_documents_that_are_missing_cost_a_request_each_and_one_look_for_the_bucket(
    cloud: StorageServer,
) -> None:
    for number in range(1_000):
        assert GcsStore(BUCKET, "state").load(f"stream{number}") is None
    looks = [request for request in cloud.requests if request == "GET"]
    assert (len(looks), len(cloud.requests)) == (1, 1_001)


def test_the_look_for_the_bucket_reads_one_name_however_many_there_are(cloud: StorageServer) -> None:
    for number in range(2 * PAGE):
        cloud.objects[BUCKET][f"state/stream{number}.json"] = Object(b"{}", FIRST_GENERATION, 0.0)
    assert GcsStore(BUCKET, "state").load("clicks") is None
    assert cloud.requests == ["GET state/clicks.json", "GET"]


def test_names_that_fill_several_pages_are_all_there(cloud: StorageServer) -> None:
    store = GcsStore(BUCKET, "state")
    names = [f"stream{number:02}" for number in range(3 * PAGE + 1)]
    for name in names:
        store.save(name, {}, None)
    assert store.names() == names


@pytest.mark.parametrize("fault", [429, 500, 503, "lost", "cut"])
def test_what_passes_is_ridden_out(cloud: StorageServer, fault: Fault) -> None:
    store = GcsStore(BUCKET, "state")
    version = store.save("clicks", {"n": 1}, None)
    cloud.faults = iter([fault] * 2)
    assert store.load("clicks") == Versioned({"n": 1}, version)
    cloud.faults = iter([fault] * 2)
    assert store.names() == ["clicks"]


@pytest.mark.parametrize("fault", [429, 500, 503])
def test_a_write_that_is_put_off_is_made_once(cloud: StorageServer, fault: Fault) -> None:
    store = GcsStore(BUCKET, "state")
    cloud.faults = iter([fault] * 2)
    version = store.save("clicks", {"n": 1}, None)
    assert store.load("clicks") == Versioned({"n": 1}, version)
    assert cloud.requests == ["POST state/clicks.json"] * 3 + ["GET state/clicks.json"]


@pytest.mark.parametrize("fault", ["lost", "cut"])
def test_a_write_whose_answer_is_lost_meets_itself_and_is_made_once(cloud: StorageServer, fault: Fault) -> None:
    store = GcsStore(BUCKET, "state")
    cloud.faults = iter([fault])
    with pytest.raises(StateConflictError):
        store.save("clicks", {"n": 1}, None)
    found = store.load("clicks")
    assert found == Versioned({"n": 1}, FIRST_GENERATION)


def test_a_document_read_again_after_a_cut_may_be_a_newer_one(cloud: StorageServer) -> None:
    store = GcsStore(BUCKET, "state")
    version = store.save("clicks", {"n": 1}, None)

    def cut_and_let_another_write() -> Iterator[Fault]:
        yield "cut"
        cloud.objects[BUCKET]["state/clicks.json"] = Object(b'{"n": 2}', version + 1, 0.0)
        yield None

    cloud.faults = cut_and_let_another_write()
    assert store.load("clicks") == Versioned({"n": 2}, version + 1)


def test_writes_that_come_too_fast_get_their_turn(cloud: StorageServer) -> None:
    cloud.seconds_between_writes = 0.05
    store, version = GcsStore(BUCKET, "state"), None
    written: list[float] = []
    for n in range(3):
        version = store.save("clicks", {"n": n}, version)
        written.append(cloud.objects[BUCKET]["state/clicks.json"].written)
    assert all(later - sooner >= 0.05 for sooner, later in itertools.pairwise(written))


@pytest.mark.parametrize("fault", [429, 503, "lost", "cut"])
def test_what_does_not_pass_is_a_state_error_and_no_conflict(
    cloud: StorageServer, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.1)
    store = GcsStore(BUCKET, "state")
    store.save("clicks", {}, None)
    cloud.faults = itertools.repeat(fault)
    for use in uses(store):
        with pytest.raises(StateError) as caught:
            use()
        assert not isinstance(caught.value, StateConflictError)


def test_a_service_that_does_not_answer_is_not_waited_for(
    cloud: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.15)
    store = GcsStore(BUCKET, "state")
    cloud.answering.clear()
    for use in uses(store):
        with pytest.raises(StateError, match=r"gs://rejeu-test/state/ .*read timeout=0\.1\); check the network"):
            use()


@pytest.mark.parametrize(
    ("host", "why"), [("http://127.0.0.1:1", "Connection refused"), ("127.0.0.1:1", "No connection adapters")]
)
def test_a_service_that_is_not_there_is_a_state_error(monkeypatch: pytest.MonkeyPatch, host: str, why: str) -> None:
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.0)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    with pytest.raises(StateError, match=rf"{why}.*; check the network and the credentials$"):
        GcsStore(BUCKET, "state").load("clicks")


def test_a_bucket_that_is_missing_is_no_stream_that_never_ran(cloud: StorageServer) -> None:
    store = GcsStore("elsewhere", "state")
    for use in uses(store):
        with pytest.raises(StateError) as caught:
            use()
        assert str(caught.value).startswith("state store gs://elsewhere/state/ cannot be used: 404 ")
        assert str(caught.value).endswith("The specified bucket does not exist; create the bucket, or name another one")


def test_what_is_forbidden_says_which_role_is_missing(cloud: StorageServer) -> None:
    store = GcsStore(BUCKET, "state")
    cloud.faults = itertools.repeat(403)
    for use in uses(store):
        with pytest.raises(
            StateError, match=r"Forbidden; grant roles/storage\.objectUser on the bucket to the account"
        ):
            use()
    assert len(cloud.requests) == 4


@pytest.mark.parametrize(("body", "why"), BROKEN)
def test_an_object_that_is_no_document_is_named(cloud: StorageServer, body: bytes, why: str) -> None:
    cloud.objects[BUCKET]["state/clicks.json"] = Object(body, FIRST_GENERATION, 0.0)
    with pytest.raises(StateError, match=rf"^state store gs://rejeu-test/state/clicks\.json: {why}.*; a stream's own"):
        GcsStore(BUCKET, "state").load("clicks")


@pytest.mark.parametrize(("body", "why"), BROKEN)
def test_a_row_that_is_no_document_is_named(tmp_path: Path, body: bytes, why: str) -> None:
    store = _written(tmp_path, body)
    with pytest.raises(StateError, match=rf"^state store .*/state\.db, document 'clicks': {why}.*; a stream's own"):
        store.load("clicks")


@pytest.mark.parametrize("column", ["body", "version"])
def test_a_row_without_its_columns_is_named(tmp_path: Path, column: str) -> None:
    store = _written(tmp_path, b"{}")
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute(f"UPDATE document SET {column} = NULL")
    with pytest.raises(StateError, match=r"document 'clicks': its (text|version) is None"):
        store.load("clicks")


def test_a_document_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    store = _written(tmp_path, b"[")
    store.save("views", DOCUMENT, None)
    assert store.names() == ["clicks", "views"]
    assert store.load("views") == Versioned(DOCUMENT, 1)


def test_a_document_that_is_too_long_is_not_read(cloud: StorageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_LENGTH", 10)
    cloud.objects[BUCKET]["state/clicks.json"] = Object(b'{"a": 12345}', FIRST_GENERATION, 0.0)
    with pytest.raises(StateError, match=r"clicks\.json: it is 12 long, and at most 10 are read: restore"):
        GcsStore(BUCKET, "state").load("clicks")


def test_without_credentials_the_store_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(StateError, match=r"^state store gs://rejeu-test/state/: .*application-default login"):
        GcsStore(BUCKET, "state")


# By its URI


def test_a_uri_names_the_store(tmp_path: Path) -> None:
    open_store(f"sqlite:{tmp_path}/state.db").save("clicks", {}, None)
    assert SqliteStore(tmp_path / "state.db").names() == ["clicks"]


def test_a_uri_names_a_bucket_and_a_folder_in_it(cloud: StorageServer) -> None:
    open_store(f"gs://{BUCKET}/deep/er/").save("clicks", {}, None)
    assert sorted(cloud.objects[BUCKET]) == ["deep/er/clicks.json"]


@pytest.mark.parametrize("uri", [f"gs://{BUCKET}", f"gs://{BUCKET}/", f"gs://{BUCKET}//"])
def test_a_bucket_as_a_whole_is_no_store(cloud: StorageServer, uri: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_store(uri)
    rule = "it must name a folder too, or every JSON file of the bucket is taken for a stream"
    assert str(caught.value) == f"state store {uri!r}: {rule}; write gs://{BUCKET}/PREFIX"


def test_without_a_uri_each_replay_remembers_for_itself() -> None:
    open_store(None).save("clicks", {}, None)
    assert open_store(None).names() == []


@pytest.mark.parametrize(
    "uri", ["", "sqlite:", "gs:", "gs://", "gs:///state", "gs://Bucket/state", "gs:bucket", "state.db", "redis:here"]
)
def test_a_uri_that_names_no_store_is_refused(uri: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_store(uri)
    assert str(caught.value) == f"state store {uri!r} is not known: write sqlite:PATH or gs://BUCKET/PREFIX"


@pytest.mark.parametrize("uri", [None, "sqlite:state.db"])
def test_a_store_at_hand_bears_five_checkpoints_a_second(uri: str | None) -> None:
    assert rhythm(uri) == Rhythm(checkpoint_seconds=0.2, lease_seconds=1.2)


def test_an_object_bears_one_checkpoint_a_second() -> None:
    assert rhythm(f"gs://{BUCKET}/state") == Rhythm(checkpoint_seconds=1.0, lease_seconds=5.0)


def test_a_slow_checkpoint_has_a_lease_that_outlasts_it() -> None:
    assert rhythm("sqlite:/x", checkpoint_seconds=2.0) == Rhythm(checkpoint_seconds=2.0, lease_seconds=10.0)
    assert rhythm("sqlite:/x", lease_seconds=0.5) == Rhythm(checkpoint_seconds=0.2, lease_seconds=0.5)


def test_a_lease_that_would_run_out_between_two_checkpoints_is_refused() -> None:
    with pytest.raises(RequestError, match=r"--lease-seconds is 1 and --checkpoint-seconds 0\.6: a lease must outlast"):
        rhythm("sqlite:/x", checkpoint_seconds=0.6, lease_seconds=1.0)
