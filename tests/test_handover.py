"""What the DAGs decide and ask for: where a replay starts, and the requests that start jobs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rejeu.errors import RequestError
from rejeu.handover import Decision, Start, decide_start
from rejeu.jobs.build import batch_job_request, replay_request, standby_request, stream_job_request
from rejeu.jobs.request import CURSOR, ReplayRequest, Shard
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Incident, Status, StreamState
from rejeu.state.standby_marker import mark_standby
from rejeu.state.stream import announce, mark_unwanted, mark_wanted, set_pace
from rejeu.target import Target
from rejeu.testing import MemoryStore
from rejeu.timeline import MICROSECOND, HandOver, Position, Timeline, from_us, parse_instant, to_us
from rejeu.watchdog.repair import relaunch_request
from tests.paths import STREAMS

NOW = parse_instant("2026-11-20T12:00:00Z")
BATCH_MAX = parse_instant("2021-04-30T23:59:58.5Z")
TARGET = Target(project="rejeu-test", bucket="raw", state="sqlite:/tmp/state.db")
STREAM = "crypto_rates"


@pytest.fixture
def spec() -> StreamSpec:
    return read_spec(STREAMS / "crypto_rates.yaml")


def _state(**fields: Any) -> StreamState:
    return StreamState(stream=STREAM, **fields)


def _living(**fields: Any) -> StreamState:
    return _state(**{"epoch": 3, "holder": "host:7", "lease_until": NOW + timedelta(seconds=1)} | fields)


def _at(instant: datetime) -> Position:
    return Position(to_us(instant))


def _decide(
    state: StreamState | None = None,
    batch_max: datetime | None = BATCH_MAX,
    rule: HandOver = HandOver.NEXT_ROW,
    wanted_start: datetime | None = None,
) -> Decision:
    return decide_start(state, batch_max, rule, wanted_start, NOW)


# Where the replay starts


def test_the_stream_starts_at_the_first_instant_after_the_batch() -> None:
    decision = _decide()
    assert (decision.start, decision.at) == (Start.AT, BATCH_MAX + MICROSECOND)
    assert decision.reason == ("the batch ends at 2021-04-30T23:59:58.500000Z; next_row is 2021-04-30T23:59:58.500001Z")


def test_the_stream_starts_at_the_next_minute_where_the_spec_says_so() -> None:
    assert _decide(rule=HandOver.NEXT_MINUTE).at == parse_instant("2021-05-01T00:00:00Z")


def test_without_batch_and_cursor_the_stream_starts_at_the_first_row() -> None:
    assert _decide(batch_max=None).start is Start.FIRST_ROW
    assert _decide(_state(), batch_max=None).start is Start.FIRST_ROW


def test_a_start_given_by_hand_wins_over_everything() -> None:
    by_hand = parse_instant("2021-01-01T00:00:00Z")
    decision = _decide(_living(cursor=_at(BATCH_MAX)), wanted_start=by_hand)
    assert (decision.start, decision.at) == (Start.AT, by_hand)
    assert decision.reason == "started by hand at 2021-01-01T00:00:00.000000Z"


def test_a_replay_that_lives_is_left_alone_and_named() -> None:
    decision = _decide(_living(cursor=_at(BATCH_MAX + timedelta(days=1))))
    assert decision == Decision(Start.ADOPT, None, "epoch 3 publishes already (host:7)")


@pytest.mark.parametrize(
    "gone",
    [{"lease_until": NOW}, {"lease_until": None, "holder": None}, {"wanted": False}],
    ids=["its lease ran out", "it released its lease", "it was told to stop"],
)
def test_a_replay_that_is_gone_is_gone_on_from_at_its_cursor(gone: dict[str, Any]) -> None:
    decision = _decide(_living(cursor=_at(BATCH_MAX + timedelta(hours=1)), **gone))
    assert decision == Decision(Start.RESUME, None, "goes on at the cursor, 2021-05-01T00:59:58.500000Z")


@pytest.mark.parametrize(
    ("beyond_batch", "start"),
    [(timedelta(0), Start.AT), (MICROSECOND, Start.RESUME), (timedelta(days=1), Start.RESUME)],
)
def test_a_batch_that_went_beyond_the_cursor_hands_over_anew(beyond_batch: timedelta, start: Start) -> None:
    assert _decide(_state(cursor=_at(BATCH_MAX + beyond_batch))).start is start


def test_without_a_batch_the_cursor_is_gone_on_from() -> None:
    assert _decide(_state(cursor=_at(BATCH_MAX)), batch_max=None).start is Start.RESUME


# Requests


def test_the_replay_is_what_spec_and_target_say(spec: StreamSpec) -> None:
    assert replay_request(spec, TARGET, BATCH_MAX, None) == ReplayRequest.of(
        topic="projects/rejeu-test/topics/bigquery-to-pubsub-test0",
        stream=STREAM,
        project="rejeu-test",
        table="crypto_band.oracle_requests",
        event_time="block_timestamp_truncated",
        key=("oracle_request_id",),
        from_=BATCH_MAX,
        speed=1.0,
        state="sqlite:/tmp/state.db",
    )


def test_a_source_of_files_lies_in_the_targets_bucket(spec: StreamSpec) -> None:
    source = {"source": {"files": "gs://{bucket}/requests/*.parquet", "time": "at"}}
    from_files = StreamSpec.model_validate(spec.model_dump() | {"replay": source})
    assert replay_request(from_files, TARGET, None, None).file == "gs://raw/requests/*.parquet"


def test_a_simulator_is_refused_in_a_target_marked_production(spec: StreamSpec) -> None:
    source = {"source": {"generator": "oracle_requests", "time": "block_timestamp_truncated"}}
    simulated = StreamSpec.model_validate(spec.model_dump() | {"replay": source})
    production = TARGET.model_copy(update={"production": True})
    assert replay_request(simulated, TARGET, None, None).generator == "oracle_requests"
    with pytest.raises(RequestError) as caught:
        replay_request(simulated, production, None, None)
    assert str(caught.value) == (
        "crypto_rates: its source is the simulator 'oracle_requests', and REJEU_PRODUCTION marks this target: "
        "made-up rows are for targets that nobody relies on; name a table, a query or files"
    )
    assert replay_request(spec, production, None, None) == replay_request(spec, TARGET, None, None)


def test_the_speed_by_hand_wins_over_the_targets_and_that_over_the_specs(spec: StreamSpec) -> None:
    faster = TARGET.model_copy(update={"speed": 60.0})
    assert replay_request(spec, faster, None, "max").speed == "max"
    assert replay_request(spec, faster, None, None).speed == 60
    assert replay_request(spec, TARGET, None, None).speed == 1


def test_the_streaming_job_reads_the_streams_own_subscription_into_its_tables(spec: StreamSpec) -> None:
    request_ = stream_job_request(spec, TARGET)
    assert (request_.pipeline, request_.event_time) == ("rates", "timestamp")
    assert request_.subscription == "projects/rejeu-test/subscriptions/bigquery-to-pubsub-test0-crypto-rates"
    assert request_.table == "rejeu-test.temp_crypto_batch.streaming_timestamp"
    assert request_.dead_letters == "rejeu-test.temp_crypto_batch.dead_letters"


def test_the_batch_job_reads_one_partition(spec: StreamSpec) -> None:
    assert spec.batch is not None
    request_ = batch_job_request(spec, TARGET, spec.batch.files, "2021-04-30", "gs://raw/out")
    assert request_.files == "gs://raw/crypto_rates/dt=2021-04-30/*.ndjson"
    assert (request_.output, request_.partition) == ("gs://raw/out", "2021-04-30")


def test_a_relaunch_is_the_last_replay_once_more_from_its_cursor(spec: StreamSpec) -> None:
    first = replay_request(spec, TARGET, BATCH_MAX, "max")
    again = relaunch_request(_state(request=tuple(first.to_argv())))
    assert again == first.model_copy(update={"from_": CURSOR})
    assert ReplayRequest.from_argv(again.to_argv()) == again


def test_a_relaunch_of_one_that_never_came_is_what_was_asked_for(spec: StreamSpec) -> None:
    before, asked = replay_request(spec, TARGET, None, 2.0), replay_request(spec, TARGET, BATCH_MAX, "max")
    state = _state(request=tuple(before.to_argv()), announced=tuple(asked.to_argv()))
    assert relaunch_request(state) == asked


def test_what_somebody_else_publishes_is_not_replayed(spec: StreamSpec) -> None:
    foreign = StreamSpec.model_validate(spec.model_dump() | {"replay": None, "watchdog": {"probe": "tap"}})
    with pytest.raises(RequestError, match="crypto_rates has no replay: somebody else publishes it; add `replay`"):
        replay_request(foreign, TARGET, None, None)
    assert stream_job_request(foreign, TARGET) == stream_job_request(spec, TARGET)


def test_a_wrong_start_is_refused_before_a_job_is_started(spec: StreamSpec) -> None:
    with pytest.raises(RequestError, match="has no time zone"):
        replay_request(spec, TARGET, "2021-05-01T00:00:00", None)


# What is said to the watchdog


def test_an_announced_stream_is_starting_and_wanted_again(spec: StreamSpec) -> None:
    store, request = MemoryStore(), replay_request(spec, TARGET, BATCH_MAX, None)
    Lease.acquire(store, STREAM, "here", 60).release(Status.FAILED, "the topic is gone")
    mark_unwanted(store, STREAM)
    begun = datetime.now(UTC)
    state = announce(store, request)
    assert (state.wanted, state.status, state.error) == (True, Status.STARTING, None)
    assert state.status_at is not None
    assert state.status_at >= begun
    assert relaunch_request(state) == request
    assert read_state(store, STREAM) == state


def test_an_announced_stream_is_forgiven_what_was_tried_in_vain(spec: StreamSpec) -> None:
    told = {"lost_at": NOW, "detected_at": NOW, "probe": "heartbeat", "dag_run_id": "run", "cause": "it died"}
    hopeless = Incident(**told, attempts=5, retry_at=NOW, given_up=True)
    earlier = Incident(**told, attempts=2, retry_at=NOW)
    store = MemoryStore()
    store.save(STREAM, _state(incidents=(earlier, hopeless)).model_dump(mode="json"), None)
    state = announce(store, replay_request(spec, TARGET, CURSOR, None))
    assert state.incidents == (earlier, Incident(**told, attempts=0))


def test_a_shard_is_announced_under_its_own_name(spec: StreamSpec) -> None:
    store = MemoryStore()
    announce(store, replay_request(spec, TARGET, None, None).model_copy(update={"shard": Shard(1, 4)}))
    assert store.names() == [f"{STREAM}-1-of-4"]


def test_a_stream_of_somebody_else_is_wanted_without_a_replay() -> None:
    store = MemoryStore()
    mark_unwanted(store, STREAM)
    mark_wanted(store, STREAM)
    assert read_state(store, STREAM) == _state(wanted=True)


def test_silencing_a_stream_leaves_its_lease_and_cursor() -> None:
    store = MemoryStore()
    lease = Lease.acquire(store, STREAM, "here", 60, cursor=Position(7, 1))
    mark_unwanted(store, STREAM)
    assert read_state(store, STREAM) == lease.state.model_copy(update={"wanted": False})


def test_the_one_that_stands_by_is_the_same_replay_without_a_start(spec: StreamSpec) -> None:
    request = replay_request(spec, TARGET, BATCH_MAX, 60.0)
    standby = standby_request(request)
    assert ReplayRequest.from_argv(standby.to_argv()) == standby
    assert (standby.standby, standby.from_, standby.speed) == (True, None, 60.0)
    assert standby.job_name == f"{request.job_name}-twin"
    assert standby.state_name == request.state_name


def test_where_the_twin_publishes_the_first_one_stands_by_under_its_own_name(spec: StreamSpec) -> None:
    request = replay_request(spec, TARGET, CURSOR, None)
    standby = standby_request(request, twin=False)
    assert (standby.job_name, standby.standby, standby.from_) == (request.job_name, True, None)


def test_a_wish_for_another_pace_reaches_the_stream_and_all_its_shards_and_no_other() -> None:
    store = MemoryStore()
    for name in ("clicks", "clicks-0-of-2", "clicks-1-of-2", "clicks_too", "more-clicks"):
        Lease.acquire(store, name, "host:1", 3.0)
    mark_standby(store, "clicks", "host:2", NOW)
    set_pace(store, "clicks", speed=2.0)
    set_pace(store, "clicks-1-of-2", paused=True)
    found = {name: read_state(store, name) for name in store.names() if name != "clicks.standby"}
    assert {name for name, state in found.items() if state and state.speed == 2.0} == {
        "clicks",
        "clicks-0-of-2",
        "clicks-1-of-2",
    }
    assert [name for name, state in found.items() if state and state.paused] == ["clicks-1-of-2"]


def test_a_pause_that_ends_while_nobody_holds_the_stream_owes_nothing() -> None:
    store = MemoryStore()
    place, an_hour_ago = to_us(BATCH_MAX), to_us(datetime.now(UTC) - timedelta(hours=1))
    lease = Lease.acquire(store, "clicks", "host:1", 3.0)
    lease.release(Status.FAILED, paused=True, timeline=Timeline(place, an_hour_ago, 1.0))
    set_pace(store, "clicks", paused=False)
    state = read_state(store, "clicks")
    assert state is not None
    assert state.timeline is not None
    due = from_us(state.timeline.due_us(place))
    assert (state.paused, abs(due - datetime.now(UTC)) < timedelta(minutes=1)) == (False, True)


def test_a_wish_for_a_stream_that_is_not_there_names_those_that_are() -> None:
    store = MemoryStore()
    with pytest.raises(RequestError, match="no stream 'clicks': it is empty"):
        set_pace(store, "clicks", paused=True)
    Lease.acquire(store, "machines", "host:1", 3.0)
    mark_standby(store, "machines", "host:2", NOW)
    with pytest.raises(RequestError, match="no stream 'clicks': it knows machines; name one"):
        set_pace(store, "clicks", paused=True)
