"""The waits in the triggerer: when each fires, what it says, and that a restart of the triggerer changes neither."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import bigquery

from rejeu.airflow import triggers
from rejeu.airflow.triggers import JobTrigger, LoadJobTrigger, ReturnTrigger, SilenceTrigger
from rejeu.gcp import load_jobs
from rejeu.ports import JobState, Signal, Verdict
from rejeu.request import BatchJobRequest
from rejeu.spec import StreamSpec
from rejeu.state.model import Status
from rejeu.target import Target
from rejeu.testing import FakeLauncher, FakeProbe, MemoryStore
from rejeu.timeline import parse_instant
from tests.dags.builders import (
    STREAM,
    FakeAssetState,
    FakeBigQuery,
    ago,
    alive,
    dead,
    fired,
    measured,
    remember,
    revive,
)

START = parse_instant("2026-11-20T12:00:00Z")
SILENT = Verdict(Signal.SILENT, lost_at=START, detail="epoch 3 was last heard of at noon")

Seen = list[tuple[float, dict[str, Any]]]
Watch = Callable[..., Seen]


class Ended(Exception):
    """The triggerer was killed."""


class Wall(datetime):
    """A wall clock that stands still until it is told."""

    at = START

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return cls.at


@pytest.fixture
def silence(spec: StreamSpec, target: Target) -> SilenceTrigger:
    return SilenceTrigger.watching(spec, target)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Let a trigger look once every so many seconds, see these signals, and be killed: what it told, and when."""

    def run(trigger: SilenceTrigger, signals: list[Signal], every: float) -> Seen:
        seconds = iter(range(len(signals)))
        probe = FakeProbe([SILENT if signal is Signal.SILENT else Verdict(signal) for signal in signals])

        class Watched:
            def __init__(self, *_: Any) -> None:
                """Takes what a heartbeat probe takes."""

            def check(self, now: datetime) -> Verdict:
                looked = next(seconds, None)
                if looked is None:
                    raise Ended
                Wall.at = begun + timedelta(seconds=looked * every)
                return probe.check(now)

        begun = Wall.at
        monkeypatch.setattr(triggers, "HeartbeatProbe", Watched)
        monkeypatch.setattr(triggers, "datetime", Wall)
        told: Seen = []

        async def listen() -> None:
            async for event in trigger.run():
                told.append(((Wall.at - begun).total_seconds(), event.payload))

        with pytest.raises(Ended):
            asyncio.run(listen())
        return told

    monkeypatch.setattr(Wall, "at", START)
    return run


def instants(seen: Seen) -> list[float]:
    return [instant for instant, _ in seen]


# Silence


def test_silence_is_told_with_what_is_known_of_it(silence: SilenceTrigger, watch: Watch) -> None:
    ((_, event),) = watch(silence, [Signal.FLOWING, Signal.SILENT], every=1)
    assert event == {
        "stream": STREAM,
        "signal": "SILENT",
        "detected_at": "2026-11-20T12:00:01.000000Z",
        "lost_at": "2026-11-20T12:00:00.000000Z",
        "detail": "epoch 3 was last heard of at noon",
    }
    assert json.loads(json.dumps(event)) == event


@pytest.mark.parametrize("signal", [signal for signal in Signal if signal is not Signal.SILENT])
def test_nothing_else_is_silence(silence: SilenceTrigger, watch: Watch, signal: Signal) -> None:
    assert watch(silence, [signal] * 5, every=60) == []


def test_a_silence_that_lasts_is_told_again_every_half_minute(silence: SilenceTrigger, watch: Watch) -> None:
    assert instants(watch(silence, [Signal.SILENT] * 14, every=5)) == [0, 30, 60]


def test_a_new_silence_is_told_at_once(silence: SilenceTrigger, watch: Watch) -> None:
    signals = [Signal.SILENT, Signal.STARTING, Signal.FLOWING, Signal.SILENT, Signal.SILENT]
    assert instants(watch(silence, signals, every=2)) == [0, 6]


def test_a_silence_that_began_while_the_triggerer_was_dead_is_told(silence: SilenceTrigger, watch: Watch) -> None:
    silence.asset_state_store = FakeAssetState()
    assert instants(watch(silence, [Signal.SILENT], every=1)) == [0]


def test_a_restart_of_the_triggerer_neither_floods_nor_forgets(silence: SilenceTrigger, watch: Watch) -> None:
    kept = FakeAssetState()
    silence.asset_state_store = kept
    assert instants(watch(silence, [Signal.SILENT] * 3, every=5)) == [0]
    restarted = revive(silence)
    restarted.asset_state_store = kept
    assert instants(watch(restarted, [Signal.SILENT] * 6, every=5)) == [20]


def test_a_silent_stream_is_seen_through_its_heartbeat(silence: SilenceTrigger, store: MemoryStore) -> None:
    remember(store, **dead())
    assert fired(revive(silence))["signal"] == "SILENT"


def test_a_quiet_stretch_of_the_source_is_not_silence(silence: SilenceTrigger, store: MemoryStore) -> None:
    remember(store, **dead(next_due=ago(-60)))
    assert asyncio.run(silence.look()).signal is Signal.QUIET


def test_the_watch_is_written_down_and_made_again(silence: SilenceTrigger) -> None:
    path, arguments = silence.serialize()
    assert path == "rejeu.airflow.triggers.SilenceTrigger"
    assert arguments == {"stream": STREAM, "state": "sqlite:state.db", "silence_seconds": 5.0, "grace_seconds": 30.0}
    assert revive(silence).serialize() == silence.serialize()


# The signal's return


@pytest.mark.parametrize("unsettled", [Signal.STARTING, Signal.STALLED, Signal.UNKNOWN])
def test_a_replay_that_has_not_shown_how_it_fares_is_waited_for(
    spec: StreamSpec, target: Target, monkeypatch: pytest.MonkeyPatch, unsettled: Signal
) -> None:
    probe = FakeProbe([unsettled, unsettled, Signal.FLOWING])
    monkeypatch.setattr(triggers, "HeartbeatProbe", lambda *_: probe)
    assert fired(ReturnTrigger.watching(spec, target))["signal"] == "FLOWING"


@pytest.mark.parametrize("settled", [Signal.FLOWING, Signal.QUIET, Signal.SILENT, Signal.STOPPED, Signal.FINISHED])
def test_whatever_becomes_of_a_replay_ends_the_wait(
    spec: StreamSpec, target: Target, monkeypatch: pytest.MonkeyPatch, settled: Signal
) -> None:
    monkeypatch.setattr(triggers, "HeartbeatProbe", lambda *_: FakeProbe([settled]))
    assert fired(ReturnTrigger.watching(spec, target))["signal"] == settled.name


def test_a_replay_that_publishes_is_seen_through_its_heartbeat(
    spec: StreamSpec, target: Target, store: MemoryStore
) -> None:
    remember(store, **alive(status=Status.RUNNING))
    assert fired(revive(ReturnTrigger.watching(spec, target)))["signal"] == "FLOWING"


# Jobs


@pytest.fixture
def job(launcher: FakeLauncher) -> str:
    request = BatchJobRequest(
        stream=STREAM, pipeline="rates", files="*", output="out", event_time="timestamp", partition="2021-04-30"
    )
    return launcher.start(request).name


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED])
def test_the_end_of_a_job_is_told_whatever_was_awaited(launcher: FakeLauncher, job: str, state: JobState) -> None:
    launcher.end(job, state, "exit code 3")
    for awaited in (JobState.RUNNING, JobState.SUCCEEDED):
        event = fired(revive(JobTrigger(job, awaited)))
        assert event == {"name": job, "id": "1", "state": state, "detail": "exit code 3"}


def test_a_job_that_runs_is_told_where_that_is_awaited(job: str) -> None:
    assert fired(revive(JobTrigger(job, JobState.RUNNING)))["state"] == "running"


def test_a_job_that_runs_is_waited_for_where_its_end_is_awaited(
    launcher: FakeLauncher, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: Iterator[JobState] = iter([JobState.RUNNING, JobState.RUNNING, JobState.SUCCEEDED])
    find = launcher.find

    def later(name: str) -> Any:
        launcher.end(name, next(looks))
        return find(name)

    monkeypatch.setattr(launcher, "find", later)
    assert fired(revive(JobTrigger(job, JobState.SUCCEEDED)))["state"] == "succeeded"
    assert next(looks, None) is None


def test_a_job_that_nobody_knows_has_failed(launcher: FakeLauncher) -> None:
    event = fired(JobTrigger("rejeu-batch-nothing", JobState.SUCCEEDED))
    assert (event["state"], event["detail"]) == ("failed", "its record is gone")


def test_a_deferred_task_that_is_killed_stops_its_job(launcher: FakeLauncher, job: str) -> None:
    asyncio.run(revive(JobTrigger(job, JobState.SUCCEEDED)).on_kill())
    assert launcher.stopped == [job]


# Load jobs of others

TABLE = "rejeu-test.temp_crypto_batch.batch_timestamp"


def load_job(name: str, table: str = "batch_timestamp", error: str | None = None) -> bigquery.LoadJob:
    """A load job as BigQuery's API lists it."""
    destination = {"projectId": "rejeu-test", "datasetId": "temp_crypto_batch", "tableId": table}
    result = {"errorResult": {"reason": "invalid", "message": error}} if error else {}
    resource = {
        "jobReference": {"projectId": "rejeu-test", "jobId": name, "location": "US"},
        "configuration": {"load": {"destinationTable": destination}},
        "status": {"state": "DONE", **result},
    }
    return bigquery.LoadJob.from_api_repr(resource, client=None)


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """Ask for the day's load job where these jobs are listed and the day has so many rows."""

    def ask(*jobs: Any, rows: int = 1000) -> str | None:
        client = FakeBigQuery(measured(rows), jobs=jobs)
        monkeypatch.setattr(load_jobs, "bigquery_client", lambda project: client)
        found = load_jobs.find_load_job("rejeu-test", TABLE, "timestamp", "2021-04-30")
        (listed,) = client.listed
        assert listed["all_users"] is True
        assert listed["min_creation_time"] == datetime(2021, 5, 1, tzinfo=UTC)
        return found

    return ask


@pytest.mark.parametrize("table", ["batch_timestamp", "batch_timestamp$20210430"])
def test_a_load_of_the_table_or_of_the_days_partition_is_found(find: Callable[..., str | None], table: str) -> None:
    assert find(load_job("other", "another"), load_job("ours", table)) == "ours"


@pytest.mark.parametrize(
    "job",
    [
        load_job("another table", "batch_timestamp_2"),
        load_job("another day", "batch_timestamp$20210429"),
        load_job("failed", error="no such file"),
        SimpleNamespace(job_id="a query", error_result=None),
    ],
    ids=lambda job: job.job_id,
)
def test_no_other_job_fills_the_day(find: Callable[..., str | None], job: Any) -> None:
    assert find(job) is None


def test_a_load_that_left_the_day_empty_is_not_the_one(find: Callable[..., str | None]) -> None:
    assert find(load_job("ours"), rows=0) is None


def test_a_load_job_is_waited_for_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, None, "job_42"])
    asked: list[dict[str, str]] = []

    def find(**question: str) -> str | None:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr(load_jobs, "find_load_job", find)
    trigger = LoadJobTrigger("rejeu-test", TABLE, "timestamp", "2021-04-30", poll_seconds=0.0)
    assert fired(revive(trigger)) == {"job_id": "job_42"}
    question = {"project": "rejeu-test", "table": TABLE, "event_time": "timestamp", "partition": "2021-04-30"}
    assert asked == [question] * 3
