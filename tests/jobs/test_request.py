"""Requests: typed values that survive as arguments, and refuse what is wrong in the words of a person."""

import re
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rejeu.errors import RequestError
from rejeu.jobs.flags import Request
from rejeu.jobs.request import CURSOR, BatchJobRequest, ReconcileRequest, ReplayRequest, Shard, StreamJobRequest
from rejeu.spec.names import SHARD_SUFFIX
from rejeu.spec.sources import GENERATORS
from rejeu.spec.types import FASTEST, LONGEST, MAX, SLOWEST

NEEDED: dict[str, Any] = {"topic": "projects/p/topics/rates", "table": "crypto.requests", "event_time": "at"}
NEEDED_ARGV = ["--topic", "projects/p/topics/rates", "--table", "crypto.requests", "--event-time", "at"]

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda text: text != "--")
"""Two dashes alone are lost by argparse before Python 3.11.9 (github.com/python/cpython/issues/109475)."""
stream_names = st.from_regex(r"[a-z][a-z0-9_]{2,62}", fullmatch=True)
columns = st.text(string.ascii_letters + "_.", min_size=1)
instants = st.datetimes(timezones=st.just(UTC))
shards = st.integers(1, 100).flatmap(lambda count: st.builds(Shard, st.integers(0, count - 1), st.just(count)))
generators = st.builds("{}:{}".format, st.sampled_from(sorted(GENERATORS)), texts)
positive = st.floats(min_value=0, max_value=LONGEST.total_seconds(), exclude_min=True)


@st.composite
def replay_requests(draw: st.DrawFn) -> ReplayRequest:
    source = draw(st.sampled_from(["table", "query", "file", "generator"]))
    start, end = draw(st.none() | st.just(CURSOR) | instants), draw(st.none() | instants)
    assume(not isinstance(start, datetime) or end is None or start < end)
    key = tuple(draw(st.lists(columns, max_size=3)))
    return ReplayRequest.of(
        topic=draw(texts),
        project=draw(texts),
        stream=draw(stream_names),
        **{source: draw(generators if source == "generator" else texts)},
        event_time=draw(columns),
        time_unit=draw(st.sampled_from([None, "s", "ms", "us"])),
        key=key,
        ordering_key=tuple(draw(st.lists(st.sampled_from(key), max_size=2))) if key else (),
        shard=draw(st.none() | shards),
        standby=not isinstance(start, datetime) and draw(st.booleans()),
        from_=start,
        until=end,
        speed=draw(st.just(MAX) | st.floats(SLOWEST, FASTEST)),
        state=draw(texts),
        report=draw(st.none() | texts),
        lease_seconds=draw(st.none() | st.floats(0.1, 600)),
        checkpoint_seconds=draw(st.none() | st.floats(0.01, 60)),
        patience_seconds=draw(positive),
    )


stream_job_requests = st.builds(
    StreamJobRequest,
    stream=stream_names,
    pipeline=texts,
    subscription=texts,
    table=texts,
    dead_letters=texts,
    event_time=columns,
)
batch_job_requests = st.builds(
    BatchJobRequest,
    stream=stream_names,
    pipeline=texts,
    files=texts,
    output=texts,
    event_time=columns,
    partition=texts,
)


def _refusal(**changes: Any) -> str:
    with pytest.raises(RequestError) as caught:
        ReplayRequest.of(**NEEDED | changes)
    return str(caught.value)


# Arguments


@given(replay_requests() | stream_job_requests | batch_job_requests)
def test_a_request_survives_its_own_arguments(request_: Request) -> None:
    assert type(request_).from_argv(request_.to_argv()) == request_


@pytest.mark.parametrize("text", ["-x", "--speed", "a=b", "-1", "SELECT 1 -- one\nFROM t", "'\"", "é 日本"])
def test_a_value_may_look_like_anything(text: str) -> None:
    request_ = ReplayRequest.of(**NEEDED | {"table": None, "query": text})
    assert ReplayRequest.from_argv(request_.to_argv()) == request_


def test_what_is_left_at_its_default_is_not_written() -> None:
    written = ReplayRequest.of(**NEEDED).to_argv()
    assert written == ["--topic=projects/p/topics/rates", "--table=crypto.requests", "--event-time=at"]


def test_a_person_may_put_flag_and_value_apart() -> None:
    assert ReplayRequest.from_argv(NEEDED_ARGV) == ReplayRequest.of(**NEEDED)


def test_every_field_has_a_flag_with_help() -> None:
    for kind in (ReplayRequest, StreamJobRequest, BatchJobRequest):
        help_text = kind.parser().format_help()
        for name, field in kind.model_fields.items():
            assert f"--{name.rstrip('_').replace('_', '-')} " in help_text
            assert field.description


def test_a_key_is_a_list_with_commas() -> None:
    assert ReplayRequest.from_argv([*NEEDED_ARGV, "--key", "request.id, symbol"]).key == ("request.id", "symbol")


def test_a_shard_is_one_of_so_many() -> None:
    request_ = ReplayRequest.from_argv([*NEEDED_ARGV, "--shard", "3/16"])
    assert request_.shard == Shard(3, 16)
    assert "--shard=3/16" in request_.to_argv()


def test_a_switch_has_no_value() -> None:
    request_ = ReplayRequest.from_argv([*NEEDED_ARGV, "--state=sqlite:s.db", "--standby"])
    assert request_.standby
    assert request_.to_argv()[-2:] == ["--standby", "--state=sqlite:s.db"]


def test_instants_of_another_zone_become_utc() -> None:
    request_ = ReplayRequest.from_argv([*NEEDED_ARGV, "--from", "2021-05-01T02:00:00+02:00"])
    assert request_.from_ == datetime(2021, 5, 1, tzinfo=UTC)
    assert "--from=2021-05-01T00:00:00.000000Z" in request_.to_argv()


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--nonsense", "1"], "unrecognized arguments: --nonsense 1"),
        (["--topic"], "argument --topic: expected one argument"),
        (["stray"], "unrecognized arguments: stray"),
        (["--patience=5"], "unrecognized arguments: --patience=5"),
    ],
)
def test_a_wrong_flag_is_an_error_of_the_request(argv: list[str], why: str) -> None:
    with pytest.raises(RequestError) as caught:
        ReplayRequest.from_argv([*NEEDED_ARGV, *argv])
    assert str(caught.value) == f"{why}: see `rejeu replay --help` for every flag"


def test_a_missing_flag_is_named() -> None:
    with pytest.raises(RequestError, match="the following arguments are required: --event-time"):
        ReplayRequest.from_argv(NEEDED_ARGV[:4])


# Stored requests


def test_flags_of_another_version_are_passed_on_as_they_are() -> None:
    newer = ["--sift=a, b", "--fast", "--state-class=cold"]
    request = ReplayRequest.from_stored([newer[0], *NEEDED_ARGV, *newer[1:]])
    assert request.topic == ReplayRequest.from_argv(NEEDED_ARGV).topic
    again = request.model_copy(update={"speed": 2.0})
    assert again.to_argv()[-4:] == ["--speed=2.0", *newer]
    with pytest.raises(RequestError, match="unrecognized arguments: --sift"):
        ReplayRequest.from_argv(again.to_argv())


def test_a_flag_that_begins_a_known_one_is_another_one() -> None:
    request = ReplayRequest.from_stored([*NEEDED_ARGV, "--until-row=7", "--pro=7"])
    assert (request.until, request.project) == (None, ReplayRequest.from_argv(NEEDED_ARGV).project)
    assert request.to_argv()[-2:] == ["--until-row=7", "--pro=7"]


@pytest.mark.parametrize("words", [["stray"], ["-x"], ["--Loud=1"], ["-h"], ["--"], ["--topic"], ["--speed=never"]])
def test_what_is_no_request_is_told(words: list[str]) -> None:
    with pytest.raises(RequestError):
        ReplayRequest.from_stored([*NEEDED_ARGV, *words])


# Wrong values


@pytest.mark.parametrize("speed", [0, -2, "0", "-0.5", "inf", "nan", "fast", ""])
def test_a_speed_is_above_zero_or_max(speed: object) -> None:
    assert (
        _refusal(speed=speed)
        == f'--speed: it is {speed}: it must be a number from 0.001 to 1,000,000, or "max" for no waiting'
    )


def test_from_after_until_is_refused() -> None:
    reason = (
        "--from 2021-05-02T00:00:00.000000Z is not before --until 2021-05-01T00:00:00.000000Z: "
        "give a window that holds at least one instant"
    )
    assert _refusal(from_="2021-05-02T00:00:00Z", until="2021-05-01T00:00:00Z") == reason


def test_an_empty_window_is_refused() -> None:
    assert "is not before --until" in _refusal(from_="2021-05-01T00:00:00Z", until="2021-05-01T02:00:00+02:00")


@pytest.mark.parametrize("field", ["from_", "until"])
@pytest.mark.parametrize("value", ["2021-05-01T00:00:00", datetime(2021, 5, 1)])
def test_a_time_without_a_zone_is_refused(field: str, value: object) -> None:
    reason = "'2021-05-01T00:00:00' has no time zone: end it with Z, or with an offset such as +02:00"
    assert _refusal(**{field: value}) == reason


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({"table": None}, "none given"),
        ({"query": "SELECT 1"}, "--table and --query given"),
        ({"table": None, "file": "a.parquet", "generator": "clickstream"}, "--file and --generator given"),
    ],
)
def test_exactly_one_source_is_named(sources: dict[str, str | None], found: str) -> None:
    remedy = "name exactly one source of --table, --query, --file, --generator, --api and --reader"
    assert _refusal(**sources) == f"{found}: {remedy}"


def test_a_cursor_needs_a_state_store() -> None:
    reason = "--from cursor needs --state: without a state store there is no cursor to go on from"
    assert _refusal(from_=CURSOR) == reason


@pytest.mark.parametrize("changes", [{}, {"state": "sqlite:s.db", "from_": "2021-05-01T00:00:00Z"}])
def test_a_standby_needs_a_state_store_and_no_start_of_its_own(changes: dict[str, Any]) -> None:
    reason = "--standby needs --state and no --from: it goes on where the stream's holder ended"
    assert _refusal(standby=True, **changes) == reason


@pytest.mark.parametrize(
    ("key", "known"), [((), "--key, which is not given"), (("request", "symbol"), "--key request,symbol")]
)
def test_an_ordering_key_is_of_the_keys_columns(key: tuple[str, ...], known: str) -> None:
    reason = f"--ordering-key names 'coin': it must be among the columns of {known}"
    assert _refusal(key=key, ordering_key=(*key, "coin")) == reason


@pytest.mark.parametrize("shard", ["4/4", "5/4", "0/0", "-1/4", "1", "1/", "a/b", "1/4/2"])
def test_a_shard_is_i_of_n_counted_from_0(shard: str) -> None:
    assert _refusal(shard=shard) == f"--shard: it is {shard}: it must be i/n, with i from 0 to n - 1, such as 0/4"


def test_a_topic_alone_needs_a_project() -> None:
    reason = "--topic rates has no project: write projects/P/topics/T, or give --project"
    assert _refusal(topic="rates") == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stream": "Crypto-Rates"}, "--stream: it is 'Crypto-Rates': it must be 3 to 63 small letters"),
        ({"time_unit": "ns"}, "--time-unit: it is 'ns': Input should be 's', 'ms' or 'us'"),
        ({"lease_seconds": 0}, "--lease-seconds: it is 0: Input should be greater than 0"),
        ({"checkpoint_seconds": "soon"}, "--checkpoint-seconds: it is 'soon': Input should be a valid number"),
        ({"colour": "red"}, "--colour: it is 'red': Extra inputs are not permitted"),
        ({"event_time": None}, "--event-time: it is None: Input should be a valid string"),
    ],
)
def test_a_wrong_value_is_told_with_its_flag(changes: dict[str, Any], reason: str) -> None:
    assert _refusal(**changes).startswith(reason)


def test_every_wrong_value_is_told_at_once() -> None:
    assert _refusal(speed=0, lease_seconds=0).count("; ") == 1


# Names


def test_a_topic_is_named_in_full() -> None:
    assert ReplayRequest.of(**NEEDED).topic_path == "projects/p/topics/rates"
    assert (
        ReplayRequest.of(**NEEDED | {"topic": "rates", "project": "other"}).topic_path == "projects/other/topics/rates"
    )


def test_the_shards_of_a_stream_have_jobs_and_states_of_their_own() -> None:
    plain = ReplayRequest.of(**NEEDED, stream="crypto_rates", state="sqlite:s.db")
    shard = plain.model_copy(update={"shard": Shard(0, 4)})
    assert [each.job_name for each in (plain, shard)] == [
        "rejeu-replay-crypto-rates",
        "rejeu-shard-crypto-rates-0-of-4",
    ]
    assert [each.state_name for each in (plain, shard)] == ["crypto_rates", "crypto_rates-0-of-4"]
    for name in (shard.state_name, plain.state_name):
        assert re.fullmatch(plain.stream + SHARD_SUFFIX, name)


def test_the_other_one_of_a_pair_has_a_job_of_its_own_and_the_same_state() -> None:
    plain = ReplayRequest.of(**NEEDED, stream="crypto_rates", shard="0/4")
    twin = ReplayRequest.from_argv([*plain.to_argv(), "--twin"])
    assert twin == plain.model_copy(update={"twin": True})
    assert (twin.job_name, twin.state_name) == ("rejeu-shard-crypto-rates-0-of-4-twin", plain.state_name)


def test_one_that_stands_by_keeps_the_name_it_has_among_the_pair() -> None:
    plain = ReplayRequest.of(**NEEDED, state="sqlite:s.db")
    assert plain.model_copy(update={"standby": True}).job_name == plain.job_name


def test_what_goes_on_says_so() -> None:
    for changes, resumes in (({}, False), ({"from_": CURSOR}, True), ({"standby": True}, True)):
        assert ReplayRequest.of(**NEEDED | {"state": "sqlite:s.db"} | changes).resumes is resumes


def test_jobs_of_one_stream_have_names_of_their_own() -> None:
    shared = {"stream": "crypto_rates", "pipeline": "rates", "event_time": "timestamp"}
    replay = ReplayRequest.of(**NEEDED, stream="crypto_rates")
    streaming = StreamJobRequest.of(**shared, subscription="s", table="t", dead_letters="d")
    batch = BatchJobRequest.of(**shared, files="f", output="gs://b/staging/1f2e", partition="2021-04-30")
    assert [each.job_name for each in (replay, streaming, batch)] == [
        "rejeu-replay-crypto-rates",
        "rejeu-stream-crypto-rates",
        "rejeu-batch-crypto-rates-2021-04-30-1f2e",
    ]


def test_a_request_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ReplayRequest.of(**NEEDED).speed = 2.0


@pytest.mark.parametrize(("kind", "codes"), [(ReplayRequest, "0 2 3 3 4 5 6 7"), (ReconcileRequest, "0 1 2 3 4")])
def test_the_help_says_every_exit_code_once_in_the_words_of_its_error(kind: type[Request], codes: str) -> None:
    shown = kind.parser().format_help().partition("exit codes:\n")[2].splitlines()
    assert " ".join(line.split()[0] for line in shown) == codes
    assert "  2  An argument is wrong, or two do not go together." in shown
    assert kind.exit_codes() == sorted(kind.exit_codes(), key=lambda each: each.code)
