"""What the watchdog looks at: the probes that the spec names, as one, and the parts that a wanted stream is missing."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from rejeu.jobs.build import stream_job_request
from rejeu.ports import ENDED, JobState, Missing, Signal, Verdict
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.state import CLOUD, LOCAL
from rejeu.state.model import Status, StreamState
from rejeu.state.standby_marker import mark_standby
from rejeu.target import Target
from rejeu.testing import FakeLauncher, FakeProbe, MemoryStore
from rejeu.timeline import MICROSECOND, parse_instant
from rejeu.watchdog import watch as watch_module
from rejeu.watchdog.jobs_seen import JobsSeen
from rejeu.watchdog.probes import metric, tap
from rejeu.watchdog.probes.heartbeat import TAKEOVERS
from rejeu.watchdog.watch import Watch, WatchPlan
from tests.paths import STREAMS

NOW = parse_instant("2026-11-20T12:00:00Z")
SECOND = timedelta(seconds=1)
TARGET = Target(project="rejeu-test", bucket="raw", state="sqlite:state.db")
STREAM, JOB = "crypto_rates", "rejeu-stream-crypto-rates"
PUBLISHES = {"epoch": 1, "holder": "host:7", "lease_until": NOW + SECOND, "status": Status.RUNNING} | {
    "last_published": NOW - SECOND,
    "next_due": NOW + SECOND,
}
DEAD = PUBLISHES | {"lease_until": NOW, "next_due": NOW - timedelta(minutes=1)}


class AtOnce(JobsSeen):
    """Knows of every job at once where it is."""

    def __init__(self, launcher: FakeLauncher) -> None:
        super().__init__(launcher)
        self.asked: list[str] = []
        self.forgotten: list[str] = []

    def is_gone(self, name: str, for_seconds: float) -> bool:
        self.asked.append(name)
        return name not in self._launcher.find_active([name])

    def forget(self, name: str) -> None:
        self.forgotten.append(name)


class Witness(FakeProbe):
    """A probe of the library's that says what it is told, and remembers how it was made and asked."""

    made: tuple[Any, ...] = ()
    times_made = asked = excused = 0

    def __call__(self, *arguments: Any) -> "Witness":
        self.made = arguments
        self.times_made += 1
        return self

    def check(self, now: datetime) -> Verdict:
        self.asked += 1
        return super().check(now)

    def excuse(self, until: datetime) -> None:
        self.excused += 1


@pytest.fixture
def spec() -> StreamSpec:
    return read_spec(STREAMS / f"{STREAM}.yaml")


@pytest.fixture
def foreign(spec: StreamSpec) -> StreamSpec:
    """A stream that somebody else publishes."""
    return with_(spec, replay=None, watchdog={"probe": "tap"})


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore()
    monkeypatch.setattr(watch_module, "open_store", {TARGET.state: made}.__getitem__)
    return made


@pytest.fixture
def jobs(spec: StreamSpec) -> FakeLauncher:
    """Where the streaming job runs."""
    launcher = FakeLauncher()
    launcher.start(stream_job_request(spec, TARGET))
    return launcher


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Witness]:
    """Has the tap, or another probe, say this."""

    def put(*verdicts: Verdict, at: tuple[Any, str] = (tap, "TapProbe")) -> Witness:
        made = Witness(verdicts)
        monkeypatch.setattr(*at, made)
        return made

    return put


def with_(spec: StreamSpec, **parts: Any) -> StreamSpec:
    return StreamSpec.model_validate(spec.model_dump() | parts)


def remember(store: MemoryStore, **fields: Any) -> None:
    state = StreamState(stream=STREAM, **fields)
    found = store.load(STREAM)
    store.save(STREAM, state.model_dump(mode="json"), found.version if found else None)


# The plan


def test_a_plan_says_what_spec_and_target_say(spec: StreamSpec) -> None:
    watchdog = {"probe": ["heartbeat", "tap"], "silence": "2s", "grace": "1m"}
    assert WatchPlan.of(with_(spec, watchdog=watchdog), TARGET) == WatchPlan(
        stream=STREAM,
        state="sqlite:state.db",
        silence_seconds=2.0,
        grace_seconds=60.0,
        probes=("heartbeat", "tap"),
        replays=True,
        standby=False,
        job_name=JOB,
        project="rejeu-test",
        topic="bigquery-to-pubsub-test0",
        tap="projects/rejeu-test/subscriptions/bigquery-to-pubsub-test0-crypto-rates-tap",
        metric="pubsub.googleapis.com/topic/send_request_latencies",
    )


def test_a_plan_says_whether_somebody_replays_and_stands_by(spec: StreamSpec, foreign: StreamSpec) -> None:
    assert spec.replay is not None
    pair = with_(spec, replay=spec.replay.model_dump() | {"standby": True})
    plans = [WatchPlan.of(each, TARGET) for each in (spec, pair, foreign)]
    assert [(plan.replays, plan.standby) for plan in plans] == [(True, False), (True, True), (False, False)]


def test_a_plan_travels(spec: StreamSpec) -> None:
    plan = WatchPlan.of(spec, TARGET)
    assert WatchPlan.model_validate_json(plan.model_dump_json()) == plan


def test_nobody_looks_away_for_longer_than_half_a_silence_or_a_lease_nor_from_a_witness_for_longer_than_a_second(
    spec: StreamSpec,
) -> None:
    cloud = TARGET.model_copy(update={"state": "gs://rejeu-test/state"})
    short, tapped = with_(spec, watchdog={"silence": "2s"}), with_(spec, watchdog={"probe": ["heartbeat", "tap"]})
    plans = [WatchPlan.of(each, TARGET) for each in (spec, short)]
    plans += [WatchPlan.of(each, cloud) for each in (short, tapped)]
    assert [plan.longest_look_seconds for plan in plans] == [2.5, LOCAL.lease_seconds, CLOUD.lease_seconds, 1.0]


# The heartbeat


def test_silence_is_as_long_as_the_spec_says(spec: StreamSpec, store: MemoryStore, jobs: FakeLauncher) -> None:
    remember(store, status=Status.RUNNING, next_due=NOW)
    watch = Watch(WatchPlan.of(with_(spec, watchdog={"silence": "7s"}), TARGET), AtOnce(jobs))
    assert watch.look(NOW + 7 * SECOND - MICROSECOND).signal is Signal.QUIET
    assert watch.look(NOW + 7 * SECOND).signal is Signal.SILENT


def test_one_that_was_started_has_as_much_grace_as_the_spec_says(
    spec: StreamSpec, store: MemoryStore, jobs: FakeLauncher
) -> None:
    remember(store, status=Status.STARTING, status_at=NOW, announced=("--topic=t",))
    watch = Watch(WatchPlan.of(with_(spec, watchdog={"grace": "9s"}), TARGET), AtOnce(jobs))
    assert watch.look(NOW + 9 * SECOND - MICROSECOND).signal is Signal.STARTING
    assert watch.look(NOW + 9 * SECOND).signal is Signal.SILENT


def test_one_that_stands_by_has_two_leases_to_take_over(
    spec: StreamSpec, store: MemoryStore, jobs: FakeLauncher
) -> None:
    assert spec.replay is not None
    pair = with_(spec, replay=spec.replay.model_dump() | {"standby": True})
    remember(store, **DEAD)
    mark_standby(store, STREAM, "host:8", NOW + timedelta(minutes=1))
    watch = Watch(WatchPlan.of(pair, TARGET), AtOnce(jobs))
    too_late = NOW + TAKEOVERS * timedelta(seconds=LOCAL.lease_seconds)
    assert watch.look(too_late - MICROSECOND).signal is Signal.STARTING
    assert watch.look(too_late).signal is Signal.SILENT
    assert Watch(WatchPlan.of(spec, TARGET), AtOnce(jobs)).look(NOW).signal is Signal.SILENT, (
        "where the spec wants none"
    )


# What is missing


@pytest.mark.parametrize("state", JobState)
def test_a_streaming_job_that_ended_lacks(
    spec: StreamSpec, store: MemoryStore, jobs: FakeLauncher, state: JobState
) -> None:
    remember(store, **PUBLISHES)
    jobs.end(JOB, state)
    verdict = Watch(WatchPlan.of(spec, TARGET), AtOnce(jobs)).look(NOW)
    assert verdict.signal is Signal.FLOWING
    assert verdict.missing == ({Missing.STREAM_JOB} if state in ENDED else frozenset())


@pytest.mark.parametrize(
    ("fields", "signal"),
    [(PUBLISHES, Signal.FLOWING), (DEAD, Signal.SILENT), (PUBLISHES | {"status": Status.FINISHED}, Signal.FINISHED)],
)
def test_a_streaming_job_that_nobody_knows_lacks_whatever_the_signal(
    spec: StreamSpec, store: MemoryStore, fields: dict[str, Any], signal: Signal
) -> None:
    remember(store, **fields)
    verdict = Watch(WatchPlan.of(spec, TARGET), AtOnce(FakeLauncher())).look(NOW)
    assert (verdict.signal, verdict.missing) == (signal, {Missing.STREAM_JOB})


def test_both_parts_may_lack_at_once(spec: StreamSpec, store: MemoryStore) -> None:
    assert spec.replay is not None
    pair = with_(spec, replay=spec.replay.model_dump() | {"standby": True})
    remember(store, **PUBLISHES)
    assert Watch(WatchPlan.of(pair, TARGET), AtOnce(FakeLauncher())).look(NOW).missing == {
        Missing.STANDBY,
        Missing.STREAM_JOB,
    }


@pytest.mark.parametrize(("fields", "signal"), [({"wanted": False}, Signal.STOPPED), (None, Signal.UNKNOWN)])
def test_a_stream_that_nobody_wants_lacks_nothing(
    spec: StreamSpec, store: MemoryStore, fields: dict[str, Any] | None, signal: Signal
) -> None:
    if fields is not None:
        remember(store, **PUBLISHES, **fields)
    verdict = Watch(WatchPlan.of(spec, TARGET), AtOnce(FakeLauncher())).look(NOW)
    assert (verdict.signal, verdict.missing) == (signal, frozenset())


def test_a_watch_that_is_not_told_of_jobs_says_nothing_of_them(spec: StreamSpec, store: MemoryStore) -> None:
    remember(store, **PUBLISHES)
    assert Watch(WatchPlan.of(spec, TARGET)).look(NOW).missing == frozenset()


def test_what_was_seen_of_its_job_is_forgotten_with_the_stream(
    spec: StreamSpec, store: MemoryStore, jobs: FakeLauncher
) -> None:
    seen = AtOnce(jobs)
    watch = Watch(WatchPlan.of(spec, TARGET), seen)
    for fields in (PUBLISHES, PUBLISHES | {"wanted": False}):
        remember(store, **fields)
        watch.look(NOW)
    assert (seen.asked, seen.forgotten) == ([JOB], [JOB])


# Witnesses


def test_a_tap_listens_to_its_subscription_for_as_long_as_is_silence(
    spec: StreamSpec, store: MemoryStore, jobs: FakeLauncher, witness: Callable[..., Witness]
) -> None:
    remember(store, **PUBLISHES)
    listening = witness(Verdict(Signal.FLOWING, NOW, probe="tap"))
    plan = WatchPlan.of(with_(spec, watchdog={"probe": ["heartbeat", "tap"]}), TARGET)
    watch = Watch(plan, AtOnce(jobs), last_seen=NOW - SECOND)
    assert [watch.look(NOW).probe for _ in range(3)] == ["heartbeat+tap"] * 3
    assert listening.made == (plan.tap, timedelta(seconds=5), NOW - SECOND)
    assert (listening.times_made, listening.asked) == (1, 3)


def test_a_metric_counts_what_the_spec_names_of_the_topic(
    spec: StreamSpec, store: MemoryStore, jobs: FakeLauncher, witness: Callable[..., Witness]
) -> None:
    remember(store, **PUBLISHES)
    counting = witness(Verdict(Signal.FLOWING, NOW, probe="metric"), at=(metric, "MetricProbe"))
    watchdog = {"probe": ["heartbeat", "metric"], "metric": "pubsub.googleapis.com/topic/send_request_count"}
    Watch(WatchPlan.of(with_(spec, watchdog=watchdog), TARGET), AtOnce(jobs)).look(NOW)
    assert counting.made == (
        "rejeu-test",
        "bigquery-to-pubsub-test0",
        timedelta(seconds=5),
        "pubsub.googleapis.com/topic/send_request_count",
    )


def test_what_is_acknowledged_and_does_not_arrive_is_undelivered_and_lacks_are_seen_beside_it(
    spec: StreamSpec, store: MemoryStore, witness: Callable[..., Witness]
) -> None:
    remember(store, **PUBLISHES)
    witness(Verdict(Signal.SILENT, lost_at=NOW - 9 * SECOND, probe="tap"))
    watch = Watch(WatchPlan.of(with_(spec, watchdog={"probe": ["heartbeat", "tap"]}), TARGET), AtOnce(FakeLauncher()))
    verdict = watch.look(NOW)
    assert (verdict.signal, verdict.missing) == (Signal.UNDELIVERED, {Missing.STREAM_JOB})


# What somebody else publishes


def test_what_somebody_else_publishes_is_what_the_tap_says(
    foreign: StreamSpec, store: MemoryStore, jobs: FakeLauncher, witness: Callable[..., Witness]
) -> None:
    remember(store)
    witness(Verdict(Signal.FLOWING, NOW, probe="tap"), Verdict(Signal.SILENT, NOW, NOW, probe="tap"))
    watch = Watch(WatchPlan.of(foreign, TARGET), AtOnce(jobs))
    seen = [watch.look(NOW) for _ in range(2)]
    assert [(verdict.signal, verdict.probe) for verdict in seen] == [(Signal.FLOWING, "tap"), (Signal.SILENT, "tap")]


def test_its_streaming_job_is_ours(foreign: StreamSpec, store: MemoryStore, witness: Callable[..., Witness]) -> None:
    remember(store)
    witness(Verdict(Signal.FLOWING, NOW, probe="tap"))
    assert Watch(WatchPlan.of(foreign, TARGET), AtOnce(FakeLauncher())).look(NOW).missing == {Missing.STREAM_JOB}


@pytest.mark.parametrize("known", [True, False])
def test_while_nobody_wants_it_nobody_asks_the_tap(
    foreign: StreamSpec, store: MemoryStore, witness: Callable[..., Witness], known: bool
) -> None:
    if known:
        remember(store, wanted=False)
    listening = witness(Verdict(Signal.SILENT, lost_at=NOW, probe="tap"))
    assert Watch(WatchPlan.of(foreign, TARGET), AtOnce(FakeLauncher())).look(NOW) == Verdict(
        Signal.STOPPED, probe="tap"
    )
    assert listening.asked == 0
