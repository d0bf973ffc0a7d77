"""Whatever stands in a state store: it is read, or refused with an error of ours, soon and in little memory."""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from rejeu.errors import RejeuError
from rejeu.handover import decide_start
from rejeu.orphans.finding import left_subscriptions
from rejeu.orphans.telling import to_be_told
from rejeu.ports import EndedBy, Versioned
from rejeu.reconcile import Span, read_done, remember_done, span_to_compare
from rejeu.spec.model import StreamSpec
from rejeu.state.documents import SideDocument, conflict, parse
from rejeu.state.launch_lock import hold_launch_lock
from rejeu.state.lease import Lease, read_state
from rejeu.state.live_record import forget_subscription, read_record, remember_live, spec_of, subscriptions_of
from rejeu.state.model import Status
from rejeu.state.standby_marker import mark_standby, stands_by
from rejeu.state.stream import announce, mark_unwanted, set_pace
from rejeu.state.watch_note import Blindness, WatchNote, blind_watches, note_blind, note_sight, read_note, write_note
from rejeu.target import Target
from rejeu.timeline import HandOver
from rejeu.watchdog.incidents import ended, mark_recorded
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe
from rejeu.watchdog.repair import Seen, claim, relaunch_request
from tests.spec.builders import spec_of as text_of
from tests.state.sampling import SAMPLES as FOLDER
from tests.state.sampling import STREAM, name_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_garbage")]

DOCUMENTS: Final = 3_000
SEED: Final = 12
SECONDS: Final = 1.0
MEGABYTES: Final = 200
SILENCE: Final = timedelta(seconds=5)
SAMPLES: Final = [
    (file.stem.replace("turn", "launch_lock"), json.loads(file.read_text(encoding="utf-8")))
    for file in sorted(FOLDER.glob("*/*.json"))
]
KINDS: Final = {kind: [content for each, content in SAMPLES if each == kind] for kind, _ in SAMPLES}
TARGET: Final = Target(project="rejeu-test")
SPEC: Final = StreamSpec.model_validate(text_of(STREAM))
DEEP: Final = "@deep@"
VALUES: Final[list[Any]] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        0.5,
        -0.0,
        2**31,
        2**63,
        -(2**63),
        10**400,
        1e308,
        5e-324,
        float("nan"),
        float("inf"),
    ),
    *("", "clicks", "views", "0", "many", "max", "--help", "-h", "--", "stray", "--speed=1e999", "--sift=a", "--topic"),
    *("2026-11-20T12:00:00Z", "2026-11-20T12:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00"),
    *("2199-11-20T12:00:00Z", "1970-01-01T00:00:00Z", "9989-12-31T00:00:00+02:00", *Status, *EndedBy),
    *("host:7", ":::", "\ud800", "\x00", "é" * 5_000, DEEP, [], {}, [[]], [DEEP], {"": {}}, {"of": DEEP}),
    *({"event_us": 2**62, "count": 1}, {"event_us": 0}, {"at": "2026-11-20T12:00:00Z", "by": "signal"}),
]
FIELDS: Final = ["schema_version", "new", "end", "speed", "announced", "request", "cursor", "until", "who", ""]


class TextStore:
    """A store that has texts, as a file and a bucket have them."""

    def __init__(self, name: str, text: str | bytes) -> None:
        self._texts: dict[str, tuple[str | bytes, int]] = {name: (text, 1)}

    def load(self, name: str) -> Versioned | None:
        if name not in self._texts:
            return None
        text, version = self._texts[name]
        return Versioned(parse(text, f"a store's {name}"), version)

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        _, version = self._texts.get(name, ("", None))
        if version != expected:
            raise conflict(name, expected)
        self._texts[name] = (json.dumps(document), (expected or 0) + 1)
        return self._texts[name][1]

    def remove(self, name: str, expected: int) -> None:
        if self._texts.get(name, ("", None))[1] != expected:
            raise conflict(name, expected)
        del self._texts[name]

    def names(self) -> list[str]:
        return sorted(self._texts)


def mutated(content: dict[str, Any], luck: random.Random) -> str | bytes:
    """The text of the same document after one or two changes, in any part of it, or in its text."""
    content = deepcopy(content)
    for _ in range(luck.randint(1, 2)):
        change_one(content, luck)
    text = json.dumps(content)
    depth = luck.choice([10, 45, 100, 5_000])
    text = text.replace(json.dumps(DEEP), "[" * depth + "]" * depth)
    if luck.random() < 0.1:
        body = bytearray(text.encode())
        body[luck.randrange(len(body))] = luck.randrange(256)
        return bytes(body[: luck.randrange(len(body) + 1)] if luck.random() < 0.5 else body)
    return text


def change_one(part: Any, luck: random.Random) -> None:
    """Change, remove or add one thing, here or further in."""
    keys = list(part) if isinstance(part, dict) else list(range(len(part)))
    if not keys or (luck.random() < 0.1 and isinstance(part, dict)):
        if isinstance(part, dict):
            part[luck.choice(FIELDS)] = deepcopy(luck.choice(VALUES))
        else:
            part.append(deepcopy(luck.choice(VALUES)))
        return
    key = luck.choice(keys)
    if isinstance(part[key], dict | list) and luck.random() < 0.7:
        change_one(part[key], luck)
    elif luck.random() < 0.15:
        del part[key]
    else:
        alike = [value for value in VALUES if type(value) is type(part[key])] if luck.random() < 0.7 else []
        part[key] = deepcopy(luck.choice(alike or VALUES))


def uses_of(kind: str, store: TextStore) -> list[Callable[[], object]]:
    """What Rejeu does with such a document: each reads it, and most write it back."""
    now = datetime.now(UTC)
    if kind == SideDocument.STANDBY:
        return [lambda: stands_by(store, STREAM, now), lambda: mark_standby(store, STREAM, "host:8", now)]
    if kind == SideDocument.RECONCILED:
        span = Span(from_time=now, until_time=now)
        state = read_state(TextStore(STREAM, json.dumps(dict(SAMPLES)["running"])), STREAM)
        assert state is not None
        return [lambda: read_done(store, STREAM), lambda: remember_done(store, state, span)]
    if kind == SideDocument.LAUNCH_LOCK:
        return [lambda: hold(store)]
    if kind == SideDocument.LIVE:
        return [
            lambda: read_spec(store),
            lambda: forget_subscription(store, STREAM, "projects/rejeu-test/subscriptions/clicks-clicks"),
            lambda: remember_live(store, SPEC, TARGET, goes_live=False),
            lambda: left_subscriptions(store, [SPEC], TARGET),
            lambda: remember_live(store, SPEC, TARGET),
        ]
    if kind == SideDocument.TOLD:
        return [lambda: read_note(store, STREAM), lambda: write_note(store, STREAM, WatchNote(told_at=now))]
    if kind == SideDocument.BLIND:
        return [
            lambda: [*blind_watches(store, store.names())],
            lambda: note_blind(store, STREAM, Blindness(since=now, why="it is away")),
            lambda: note_sight(store, STREAM),
        ]
    if kind == "patrol":
        return [
            lambda: to_be_told(store, [STREAM, "bikes"], now),
            lambda: to_be_told(store, [STREAM], now + timedelta(days=1)),
            lambda: to_be_told(store, [], now),
        ]
    return [
        lambda: claim_it(store, now),
        lambda: look(store, now),
        lambda: announce_again(store),
        lambda: set_pace(store, STREAM, paused=True, speed=2.0),
        lambda: mark_unwanted(store, STREAM),
        lambda: Lease.acquire(store, STREAM, "host:7:new", 3.0).checkpoint(status=Status.RUNNING),
        lambda: look(store, now),
    ]


def read_spec(store: TextStore) -> None:
    """What the patrol makes of a stream whose spec is gone: it is watched as its record says."""
    record = read_record(store, STREAM)
    if record is not None:
        subscriptions_of(spec_of(record), TARGET)


def hold(store: TextStore) -> None:
    def give_up(seconds: float) -> None:
        raise RejeuError("somebody else has it")

    with hold_launch_lock(store, STREAM, "run-1/start", give_up) as lock:
        lock.confirm()


def claim_it(store: TextStore, now: datetime) -> None:
    probe = HeartbeatProbe(store, STREAM, SILENCE, SILENCE, standby=True, takeover=SILENCE)
    claim(store, STREAM, probe, Seen(probe.check(now), now, "run-9"), attempts=3)


def announce_again(store: TextStore) -> None:
    if (state := read_state(store, STREAM)) is not None:
        announce(store, relaunch_request(state))


def look(store: TextStore, now: datetime) -> None:
    """What the watchdog, the hand-over and reconcile make of a stream."""
    state = read_state(store, STREAM)
    if state is None:
        return
    verdict = HeartbeatProbe(store, STREAM, SILENCE, SILENCE).judge(state, now)
    mark_recorded(store, STREAM, ended(state, verdict, SILENCE, now))
    decide_start(state, now, HandOver.NEXT_ROW, None, now)
    span_to_compare(state, None)
    with suppress(RejeuError):
        _ = state.holder_process


def test_nothing_but_our_own_errors_comes_of_any_document(monkeypatch: pytest.MonkeyPatch) -> None:
    luck = random.Random(SEED)
    read = refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(DOCUMENTS):
        kind = luck.choice([*KINDS])
        text = mutated(luck.choice(KINDS[kind]), luck)
        store = TextStore(name_of(kind), text)
        begun = time.process_time()
        for use in uses_of(kind, store):
            try:
                use()
                read += 1
            except RejeuError as error:
                str(error).encode("utf-8")
                refused += 1
            except Exception as error:
                raise AssertionError(f"document {number} ({kind}): {text[:3_000]!r}") from error
        assert time.process_time() - begun < SECONDS, f"document {number} ({kind}): {text[:3_000]!r}"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1_024 < MEGABYTES
    assert min(read, refused) > DOCUMENTS, f"{read} read, {refused} refused: most were of one kind, so little was tried"
