"""Several versions of Rejeu read and write one document: what earlier ones wrote is read, what later ones add is kept.

`samples/` has documents as earlier commits wrote them, a folder each; whoever changes a document adds a folder with
`python -m tests.state.sampling`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from rejeu.errors import StateError
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.orphans.telling import to_be_told
from rejeu.ports import EndedBy
from rejeu.reconcile import Span, read_done, remember_done
from rejeu.spec.model import StreamSpec
from rejeu.state import documents
from rejeu.state.documents import SideDocument
from rejeu.state.launch_lock import hold_launch_lock
from rejeu.state.lease import Lease, read_state
from rejeu.state.live_record import forget_subscription, read_record, remember_live, spec_of
from rejeu.state.model import Status, StreamState
from rejeu.state.standby_marker import mark_standby, stands_by
from rejeu.state.stream import announce, mark_unwanted, set_pace
from rejeu.state.watch_note import Blindness, WatchNote, blind_watches, note_blind, read_note, write_note
from rejeu.target import Target
from rejeu.testing import MemoryStore
from rejeu.timeline import Position, Timeline, parse_instant
from rejeu.watchdog.incidents import ended, mark_recorded, still_open
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe
from rejeu.watchdog.repair import Seen, claim, relaunch_request
from tests.paths import PLUGINS
from tests.spec.builders import spec_of as text_of
from tests.state.sampling import DOCUMENTS, PARTS, SAMPLES, SHAPE, STREAM, documents_of_now, name_of, shape, versions

VERSIONS: Final = versions()
OWN: Final = ["starting", "running", "relaunched", "second_silence", "stopped"]
NEW: Final = {"of": ["a", {"newer": 1.5}], "is": None}
NO_TIME: Final = timedelta(0)
LATER: Final = parse_instant("2099-01-01T00:00:00Z")
SPAN: Final = Span(from_time=None, until_time=LATER)
TARGET: Final = Target(project="rejeu-test")


def sample(version: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / version / f"{name}.json").read_text(encoding="utf-8"))
    return found


def having(name: str) -> list[str]:
    """The versions that have such a document."""
    return [version for version in VERSIONS if (SAMPLES / version / f"{name}.json").exists()]


def holding(content: dict[str, Any], name: str = STREAM) -> MemoryStore:
    """A store in which some other version has written this."""
    store = MemoryStore()
    store.save(name, content, None)
    return store


def written(store: MemoryStore, name: str = STREAM) -> dict[str, Any]:
    found = store.load(name)
    assert found is not None
    return json.loads(json.dumps(found.document))  # type: ignore[no-any-return]


def newer(content: dict[str, Any]) -> dict[str, Any]:
    """The same document as a newer version would write it: one more field in each of its parts."""
    parts = {name: {**content[name], "new": NEW} for name in ("cursor", "timeline", "since") if content.get(name)}
    incidents = [
        {**each, "new": NEW, **({"end": {**each["end"], "new": NEW}} if each.get("end") else {})}
        for each in content.get("incidents", [])
    ]
    return {**content, **parts, "incidents": incidents, "new": NEW}


def probe(store: MemoryStore) -> HeartbeatProbe:
    return HeartbeatProbe(store, STREAM, NO_TIME, NO_TIME)


def claim_it(store: MemoryStore) -> None:
    now = datetime.now(UTC)
    claim(store, STREAM, probe(store), Seen(probe(store).check(now), now, "run-9"), attempts=9)


def renew(store: MemoryStore) -> None:
    Lease.acquire(store, STREAM, "host:7:new", 3.0).checkpoint(status=Status.RUNNING, published=1)


def record(store: MemoryStore) -> None:
    state = read_state(store, STREAM)
    assert state is not None
    now = datetime.now(UTC)
    mark_recorded(store, STREAM, ended(state, probe(store).check(now), NO_TIME, now))


WRITERS: Final[list[Callable[[MemoryStore], object]]] = [
    renew,
    claim_it,
    record,
    lambda store: announce(store, relaunch_request(state_of(store))),
    lambda store: mark_unwanted(store, STREAM),
    lambda store: set_pace(store, STREAM, paused=True),
]


def state_of(store: MemoryStore) -> StreamState:
    state = read_state(store, STREAM)
    assert state is not None
    return state


WRITER_OF: Final[dict[str, Callable[[MemoryStore], object]]] = {
    STREAM: lambda store: mark_unwanted(store, STREAM),
    "clicks.standby": lambda store: mark_standby(store, STREAM, "host:8", LATER),
    "clicks.launch_lock": lambda store: hold_launch_lock(store, STREAM, "run-1/start").__enter__(),
    "clicks.reconciled": lambda store: remember_done(store, StreamState(stream=STREAM), SPAN),
    "clicks.live": lambda store: remember_live(store, StreamSpec.model_validate(text_of(STREAM)), TARGET),
    "clicks.told": lambda store: write_note(store, STREAM, WatchNote(told_at=LATER)),
    "clicks.blind": lambda store: note_blind(store, STREAM, Blindness(since=LATER, why="it is away")),
    ".patrol": lambda store: to_be_told(store, ["bikes"], LATER),
}


# Samples of today


def test_the_newest_samples_have_the_shape_that_documents_have_now() -> None:
    newest = (SAMPLES / VERSIONS[-1] / SHAPE).read_text(encoding="utf-8")
    assert shape() == newest, "a document has changed: keep samples of it with `python -m tests.state.sampling`"


def test_every_document_and_part_is_in_the_samples_with_each_of_its_fields() -> None:
    known = {model.__name__ for model in (*DOCUMENTS, *PARTS)}
    sources = "".join(file.read_text(encoding="utf-8") for file in (PLUGINS / "rejeu").rglob("*.py"))
    assert set(re.findall(r"class (\w+)\(Document\)", sources)) <= known
    now = documents_of_now()
    assert set(now) == {file.stem for file in (SAMPLES / VERSIONS[-1]).glob("*.json")}
    filled = {field for content in now.values() for field in fields_of(content)}
    unfilled = {field for model in (*DOCUMENTS, *PARTS) for field in model.model_fields} - filled
    assert unfilled == set()


def fields_of(part: Any) -> set[str]:
    """The names of all fields, here and further in, that say something."""
    if isinstance(part, list):
        return {name for each in part for name in fields_of(each)}
    if not isinstance(part, dict):
        return set()
    return {name for name, value in part.items() if value not in (None, [], "")} | fields_of(list(part.values()))


# What earlier versions wrote


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OWN)
def test_the_document_of_an_earlier_version_is_read_with_its_cursor(version: str, name: str) -> None:
    content = sample(version, name)
    state = state_of(holding(content))
    cursor = content["cursor"]
    assert state.cursor == (None if cursor is None else Position(**cursor))
    assert (state.epoch, list(state.request)) == (content["epoch"], content["request"])
    assert state.schema_version == documents.SCHEMA


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OWN[1:])
def test_the_replay_of_an_earlier_version_is_relaunched_at_its_cursor(version: str, name: str) -> None:
    request = relaunch_request(state_of(holding(sample(version, name))))
    assert (request.from_, request.table, request.speed) == (CURSOR, "raw.clicks", 2.5)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_ends_of_an_earlier_versions_silences_are_known(version: str) -> None:
    first, second = state_of(holding(sample(version, "second_silence"))).incidents
    assert first.end is not None
    assert (first.end.by, first.end.rows_owed, second.end) == (EndedBy.SIGNAL, 3, None)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_earlier_version_wrote_beside_the_stream_is_read(version: str) -> None:
    marker = holding(sample(version, "standby"), SideDocument.STANDBY.of(STREAM))
    until = parse_instant(written(marker, "clicks.standby")["until"])
    assert stands_by(marker, STREAM, until - timedelta(seconds=1))
    reconciled = holding(sample(version, "reconciled"), SideDocument.RECONCILED.of(STREAM))
    done = read_done(reconciled, STREAM)
    assert done is not None
    assert (done.from_time, done.until_time) == (
        parse_instant("2021-05-01T00:00:00Z"),
        parse_instant("2021-05-01T00:00:12Z"),
    )


@pytest.mark.parametrize("version", having("live"))
def test_the_spec_that_an_earlier_version_remembered_is_read_whole(version: str) -> None:
    content = sample(version, "live")
    store = holding(content, "clicks.live")
    record = read_record(store, STREAM)
    assert record is not None
    assert spec_of(record).model_dump(mode="json", exclude_unset=True) == content["spec"]
    forget_subscription(store, STREAM, content["subscriptions"][0])
    assert written(store, "clicks.live") == content | {"subscriptions": content["subscriptions"][1:]}


@pytest.mark.parametrize("version", having("told"))
def test_what_an_earlier_versions_watch_left_is_read(version: str) -> None:
    note = read_note(holding(sample(version, "told"), "clicks.told"), STREAM)
    assert note is not None
    assert note.needs == ("standby",)
    [words] = blind_watches(holding(sample(version, "blind"), "clicks.blind"), ["clicks.blind"])
    assert words.endswith("the state store does not answer")


@pytest.mark.parametrize("version", having("patrol"))
def test_what_an_earlier_versions_patrol_told_is_not_told_again(version: str) -> None:
    content = sample(version, "patrol")
    store = holding(content, name_of("patrol"))
    seen = {stream: parse_instant(told["seen_at"]) for stream, told in content["orphans"].items()}
    told = {stream for stream, each in content["orphans"].items() if each["told_at"]}
    assert told
    assert set(to_be_told(store, seen, max(seen.values()) + timedelta(minutes=1))) == set(seen) - told


# What later versions add


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("write", WRITERS)
def test_what_a_newer_version_added_is_there_after_this_one_has_written(
    version: str, write: Callable[[MemoryStore], object]
) -> None:
    before = newer(json.loads(state_of(holding(sample(version, "second_silence"))).model_dump_json()))
    store = holding(before)
    write(store)
    after = written(store)
    assert after != before
    assert after["new"] == NEW
    for part in ("cursor", "since"):
        assert after[part] == before[part]
    assert after["timeline"]["new"] == NEW
    known = {each["lost_at"]: each for each in before["incidents"]}
    kept = [(each, known[each["lost_at"]]) for each in after["incidents"] if each["lost_at"] in known]
    assert kept
    for incident, earlier in kept:
        assert (incident["new"], incident["cursor"]) == (NEW, earlier["cursor"])
        assert earlier.get("end") is None or incident["end"]["new"] == NEW


def test_a_field_of_a_position_goes_with_the_position() -> None:
    store = holding(newer(sample(VERSIONS[-1], "running")))
    Lease.acquire(store, STREAM, "host:7:new", 3.0).checkpoint(cursor=Position(1, 2), timeline=Timeline(1, 2, None))
    after = written(store)
    assert (after["cursor"]["event_us"], after["timeline"]["speed"]) == (1, None)
    assert "new" not in {**after["cursor"], **after["timeline"]}


def test_what_a_newer_version_added_to_a_side_document_is_kept() -> None:
    now = datetime.now(UTC)
    store = MemoryStore()
    for name, content in (
        ("standby", {"who": "host:7", "until": now.isoformat()}),
        ("launch_lock", {"who": None, "until": now.isoformat()}),
        ("reconciled", {"from_time": None, "until_time": now.isoformat()}),
        ("live", {"spec": text_of(STREAM), "subscriptions": []}),
        ("told", {"told_at": now.isoformat(), "needs": ["standby"]}),
        ("blind", {"since": now.isoformat(), "why": "it is away"}),
    ):
        store.save(f"{STREAM}.{name}", {**content, "new": NEW}, None)
    store.save(".patrol", {"orphans": {STREAM: {"seen_at": now.isoformat(), "new": NEW}}, "new": NEW}, None)
    mark_standby(store, STREAM, "host:8", now)
    with hold_launch_lock(store, STREAM, "run-1/start"):
        pass
    remember_done(store, StreamState(stream=STREAM), Span(from_time=now, until_time=now + timedelta(1)))
    remember_live(store, StreamSpec.model_validate(text_of(STREAM)), TARGET)
    assert to_be_told(store, [STREAM], now + timedelta(minutes=1)) == [STREAM]
    write_note(store, STREAM, WatchNote(told_at=LATER))
    note_blind(store, STREAM, Blindness(since=LATER, why="it is still away"))
    assert [written(store, each)["new"] for each in store.names()] == [NEW] * 7
    assert (written(store, "clicks.told")["needs"], written(store, "clicks.blind")["why"]) == ([], "it is still away")
    assert written(store, "clicks.standby")["who"] == "host:8"
    assert written(store, "clicks.live")["subscriptions"]
    told = written(store, ".patrol")["orphans"][STREAM]
    assert (told["new"], bool(told["told_at"])) == (NEW, True)


def test_every_document_says_which_schema_it_has() -> None:
    for name, write in WRITER_OF.items():
        store = MemoryStore()
        write(store)
        assert written(store, name)["schema_version"] == documents.SCHEMA


@pytest.mark.parametrize("name", WRITER_OF)
def test_a_schema_that_this_version_does_not_know_is_refused_and_left_as_it_is(name: str) -> None:
    content = {"schema_version": documents.SCHEMA + 1, "everything": "is otherwise"}
    store = holding(content, name)
    with pytest.raises(StateError) as caught:
        WRITER_OF[name](store)
    assert str(caught.value) == (
        f"state of {name}: schema_version is 2, and this Rejeu reads up to 1: a newer one wrote it; run that version "
        "here too, and leave the document as it is"
    )
    assert written(store, name) == content


# Requests that are stored


def test_a_flag_of_a_newer_version_is_relaunched_as_it_is() -> None:
    content = sample(VERSIONS[-1], "running")
    store = holding({**content, "request": [*content["request"], "--sift=a=b c", "--fast"]})
    claim_it(store)
    announced = state_of(store).announced
    assert announced[-2:] == ("--sift=a=b c", "--fast")
    assert "--from=cursor" in announced
    request, cursor = relaunch_request(state_of(store)), state_of(store).cursor
    assert (tuple(request.to_argv()), cursor) == (announced, Position(**content["cursor"]))


def test_a_stored_request_that_cannot_be_read_is_told_and_keeps_the_cursor() -> None:
    content = sample(VERSIONS[-1], "running") | {"request": ["--topic=t", "--speed=as ever"]}
    store = holding(content)
    with pytest.raises(
        StateError, match=r"^state of clicks: the stored request cannot be read: .*it holds the cursor$"
    ):
        claim_it(store)
    assert written(store) == content


# Documents that are broken


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stream": "views"}, "stream is 'views': it is another stream's document; restore this one's own"),
        ({"epoch": "many"}, "epoch: it is 'many': "),
        ({"epoch": -1}, "epoch: it is -1: "),
        ({"heartbeat": "2026-11-20T12:00:00"}, "heartbeat: it is '2026-11-20T12:00:00': Input should have timezone"),
        (
            {"next_due": "9999-12-31T23:59:59Z"},
            "next_due: it is 9999-12-31 23:59:59+00:00: its year must be 1970 to 9989",
        ),
        (
            {"cursor": {"event_us": 10**18}},
            "cursor: event_us is 1000000000000000000: it must lie in the years 1 to 9999",
        ),
        ({"cursor": {"event_us": 1, "count": -1}}, "cursor: count is -1: it must be 0 or more"),
        ({"cursor": {}}, "cursor.event_us: Field required"),
        (
            {"timeline": {"event_us": 1, "wall_us": 1, "speed": 0}},
            "timeline: speed is 0.0: it must be a number above 0",
        ),
        ({"incidents": [{"lost_at": None}]}, "incidents.0.lost_at: it is None: "),
    ],
)
def test_a_field_that_is_wrong_is_named_and_the_cursor_kept(change: dict[str, Any], why: str) -> None:
    content = sample(VERSIONS[-1], "running") | change
    store = holding(content)
    for use in (lambda: read_state(store, STREAM), lambda: mark_unwanted(store, STREAM)):
        with pytest.raises(StateError) as caught:
            use()
        assert str(caught.value).startswith(f"state of {STREAM}: {why}")
    assert written(store) == content


@pytest.mark.parametrize("content", [{}, {"who": 7, "until": "soon"}, {"who": "host:7", "until": None}, {"until": 1}])
def test_a_side_document_that_is_broken_is_told_with_what_helps(content: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    uses: dict[SideDocument, Callable[[MemoryStore], object]] = {
        SideDocument.STANDBY: lambda store: stands_by(store, STREAM, now),
        SideDocument.LAUNCH_LOCK: lambda store: hold_launch_lock(store, STREAM, "run-1/start").__enter__(),
        SideDocument.RECONCILED: lambda store: read_done(store, STREAM),
        SideDocument.LIVE: lambda store: read_record(store, STREAM),
        SideDocument.TOLD: lambda store: read_note(store, STREAM),
        SideDocument.BLIND: lambda store: [*blind_watches(store, store.names())],
    }
    assert set(uses) == {*SideDocument}
    for document, use in uses.items():
        with pytest.raises(StateError, match=rf"^state of clicks\.{document}: .*: remove that document: it is written"):
            use(holding(content, document.of(STREAM)))


def test_a_stream_whose_document_is_broken_hides_no_other_ones_silence(caplog: pytest.LogCaptureFixture) -> None:
    store = holding(sample(VERSIONS[-1], "relaunched"))
    store.save("bikes", {"epoch": "many"}, None)
    assert [name for name, _ in still_open(store, None)] == [STREAM]
    assert "state of bikes: " in caplog.text


def test_a_holder_that_no_replay_is_called_is_told() -> None:
    state = StreamState(stream=STREAM, holder="host")
    with pytest.raises(StateError, match="holder is 'host': it must be host:pid:token"):
        _ = state.holder_process


def test_a_request_of_this_version_is_read_as_it_was_written() -> None:
    request = ReplayRequest.of(topic="projects/p/topics/t", file="a.parquet", event_time="at", key=("a", "b"))
    assert ReplayRequest.from_stored(request.to_argv()) == request
