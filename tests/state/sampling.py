"""`python -m tests.state.sampling`: keep the documents as this version writes them, for the versions that come after.

Whoever changes a document runs it: `test_versions.py` fails until a folder of samples has the new shape.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from inspect import get_annotations
from pathlib import Path
from typing import Any, Final

from rejeu.jobs.request import ReplayRequest
from rejeu.orphans.telling import DOCUMENT as PATROL
from rejeu.orphans.telling import PatrolDocument, Told, to_be_told
from rejeu.ports import EndedBy
from rejeu.reconcile import Compared, Span, remember_done
from rejeu.spec.model import StreamSpec
from rejeu.state import documents
from rejeu.state.documents import SideDocument
from rejeu.state.launch_lock import LockDocument, hold_launch_lock
from rejeu.state.lease import Lease, read_state
from rejeu.state.live_record import LiveRecord, remember_live
from rejeu.state.model import End, Incident, Status, StreamState
from rejeu.state.standby_marker import StandbyMarker, mark_standby
from rejeu.state.stream import announce, mark_unwanted, set_pace
from rejeu.state.watch_note import Blindness, WatchNote, note_blind, write_note
from rejeu.target import Target
from rejeu.testing import MemoryStore
from rejeu.timeline import Position, Timeline, parse_instant, to_us
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe
from rejeu.watchdog.repair import Seen, claim

STREAM: Final = "clicks"
SAMPLES: Final = Path(__file__).parent / "samples"
SHAPE: Final = "shape.txt"
DOCUMENTS: Final = (
    StreamState,
    StandbyMarker,
    LockDocument,
    Compared,
    LiveRecord,
    PatrolDocument,
    WatchNote,
    Blindness,
)
PARTS: Final = (End, Incident, Told)
VALUES: Final = (Position, Timeline)
WORDS: Final[tuple[type[StrEnum], ...]] = (Status, EndedBy, SideDocument)
BEGIN: Final = parse_instant("2021-05-01T00:00:00Z")
TOUCH: Final = 0.0
"""Seconds of a lease: it is gone as soon as it is had."""


def versions() -> list[str]:
    """The folders of samples, the oldest first."""
    return sorted((folder.name for folder in SAMPLES.iterdir()), key=lambda name: int(name.partition("-")[0]))


def name_of(kind: str) -> str:
    """The name in the store of the document that this sample is of."""
    if kind == "patrol":
        return PATROL
    return SideDocument(kind).of(STREAM) if kind in [*SideDocument] else STREAM


def shape() -> str:
    """What the documents are made of, as the sources say it: each field of each part, and each word that one may be."""
    lines = [f"schema {documents.SCHEMA}"]
    for model in (*DOCUMENTS, *PARTS):
        declared = {name: text for base in reversed(model.__mro__) for name, text in get_annotations(base).items()}
        lines += [f"{model.__name__}.{name}: {declared[name]}" for name in model.model_fields]
    lines += [f"{value.__name__}.{each.name}: {each.type}" for value in VALUES for each in fields(value)]
    return "\n".join([*lines, *(f"{words.__name__}: {', '.join(words)}" for words in WORDS)]) + "\n"


def documents_of_now() -> dict[str, dict[str, Any]]:
    """Each document, in each state that it has samples of, as this version writes it."""
    return {kind: json.loads(json.dumps(content)) for kind, content in (*_of_the_stream(), *_beside_it())}


def _of_the_stream() -> Iterator[tuple[str, dict[str, Any]]]:
    """A stream that starts, runs, dies, is relaunched, dies again, and is stopped."""
    store = MemoryStore()
    announce(store, _request())
    yield "starting", _content(store)
    _publish(store, "worker-1:71:0a1b2c3d", rows=7, owed=0)
    yield "running", _content(store)
    _claim(store, "run-1")
    yield "relaunched", _content(store)
    _publish(store, "worker-1:72:0b1c2d3e", rows=4, owed=3)
    _claim(store, "run-2")
    yield "second_silence", _content(store)
    lease = _publish(store, "worker-2:73:0c1d2e3f", rows=4, owed=4)
    set_pace(store, STREAM, speed="max", paused=False)
    mark_unwanted(store, STREAM)
    lease.release(Status.STOPPED, "SIGTERM", next_due=None)
    yield "stopped", _content(store)


def _beside_it() -> Iterator[tuple[str, dict[str, Any]]]:
    store, now = MemoryStore(), datetime.now(UTC)
    mark_standby(store, STREAM, "worker-2:80:ffee0011", now + timedelta(seconds=3))
    yield SideDocument.STANDBY, _content(store, SideDocument.STANDBY.of(STREAM))
    with hold_launch_lock(store, STREAM, "run-1/start"):
        yield SideDocument.LAUNCH_LOCK, _content(store, SideDocument.LAUNCH_LOCK.of(STREAM))
    last = Position(to_us(BEGIN) + 11_999_999, 1, "7c0f2a9d1b3e5f60")
    state = StreamState(stream=STREAM, status=Status.FINISHED, cursor=last)
    remember_done(store, state, Span(from_time=BEGIN, until_time=BEGIN + timedelta(seconds=12)))
    yield SideDocument.RECONCILED, _content(store, SideDocument.RECONCILED.of(STREAM))
    remember_live(store, _spec(), Target(project="rejeu-test"))
    yield SideDocument.LIVE, _content(store, SideDocument.LIVE.of(STREAM))
    write_note(store, STREAM, WatchNote(told_at=now, needs=("standby",)))
    yield SideDocument.TOLD, _content(store, SideDocument.TOLD.of(STREAM))
    note_blind(store, STREAM, Blindness(since=now, why="the state store does not answer"))
    yield SideDocument.BLIND, _content(store, SideDocument.BLIND.of(STREAM))
    to_be_told(store, ["clicks"], now - timedelta(minutes=1))
    to_be_told(store, ["bikes", "clicks"], now)
    yield "patrol", _content(store, PATROL)


def _content(store: MemoryStore, name: str = STREAM) -> dict[str, Any]:
    found = store.load(name)
    assert found is not None, f"{name} was written"
    return found.document


def _request() -> ReplayRequest:
    return ReplayRequest.of(
        topic="projects/p/topics/clicks",
        stream=STREAM,
        project="p",
        table="raw.clicks",
        event_time="at",
        key=("user", "page"),
        from_="2021-05-01T00:00:00Z",
        speed=2.5,
        ordering_key=("user",),
        state="sqlite:state.db",
        patience_seconds=30.0,
    )


def _publish(store: MemoryStore, holder: str, rows: int, owed: int) -> Lease:
    """A replay of this holder acknowledges so many rows, and dies: its next row is due since a while."""
    now, since = datetime.now(UTC), Position(to_us(BEGIN))
    state = read_state(store, STREAM)
    assert state is not None, "it was announced"
    lease = Lease.acquire(store, STREAM, holder, TOUCH, request=tuple(_request().to_argv()), since=since)
    reached = state.cursor or since
    lease.checkpoint(
        status=Status.RUNNING,
        cursor=Position(reached.event_us + 5_000_000, 2, "7c0f2a9d1b3e5f60"),
        timeline=Timeline(since.event_us, to_us(now), 2.5),
        next_due=now - timedelta(seconds=20),
        last_published=now,
        resumed_at=now,
        owed=owed,
        published=rows,
    )
    return lease


def _claim(store: MemoryStore, run_id: str) -> None:
    """The watchdog relaunches it, whatever its last relaunch was good for."""
    at_once = timedelta(0)
    probe = HeartbeatProbe(store, STREAM, at_once, at_once)
    now = datetime.now(UTC) + timedelta(seconds=1)
    claim(store, STREAM, probe, Seen(probe.check(now), now, run_id), attempts=9)


def _spec() -> StreamSpec:
    """A spec with as many of its fields as go together."""
    return StreamSpec.model_validate(
        {
            "stream": STREAM,
            "description": "Who looked at which page.",
            "owner": "web",
            "tags": ["pages"],
            "event_time": "at",
            "key": ["user", "page"],
            "cluster": ["page"],
            "batch": {
                "files": "gs://{bucket}/clicks/{partition}/*.ndjson",
                "table": "web.clicks_days",
                "schedule": "0 2 * * *",
            },
            "live": {
                "topic": "clicks",
                "table": "web.clicks_streaming",
                "view": "web.clicks_live",
                "dead_letters": "web.clicks_dead",
                "hand_over": "next_minute",
                "workers": {},
            },
            "replay": {
                "source": {"table": "raw.clicks", "time": "seen", "key": ["user", "page"]},
                "speed": 2.5,
                "standby": True,
                "ordering_key": ["user"],
            },
            "watchdog": {"probe": ["heartbeat", "tap"], "silence": "5s", "grace": "1m", "attempts": 7},
            "reconcile": {"schedule": "30 3 * * *", "settle": "45s"},
        }
    )


def main() -> None:
    """Write them into a folder of its own, behind those of the versions before."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    folder = SAMPLES / f"{len(versions()) + 1}-{commit.strip()}"
    folder.mkdir()
    for kind, content in documents_of_now().items():
        (folder / f"{kind}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / SHAPE).write_text(shape(), encoding="utf-8")
    print(folder)


if __name__ == "__main__":
    main()
