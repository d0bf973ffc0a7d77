"""Specs: good ones read whole, bad ones refused alone, each with file, field, reason and remedy."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.errors import SpecError
from rejeu.spec.files import load_files, load_specs, read_spec
from rejeu.spec.model import StreamSpec
from tests.paths import STREAMS

CRYPTO_RATES = STREAMS / "crypto_rates.yaml"
SCHEMA_HINT = "`rejeu schema` describes every field."
SPEED_RULE = 'it must be a number from 0.001 to 1,000,000, or "max" for no waiting'
SMALLEST: dict[str, Any] = {
    "stream": "clicks",
    "event_time": "at",
    "live": {"topic": "clicks", "table": "web.clicks"},
    "replay": {"source": {"table": "web.history"}},
}
FOREIGN = {name: part for name, part in SMALLEST.items() if name != "replay"} | {"watchdog": {"probe": "tap"}}
"""A stream that somebody else publishes."""


def _write(file: Path, document: object) -> Path:
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return file


def _changed(changes: dict[Any, Any]) -> dict[str, Any]:
    """The smallest spec with some fields, such as `live.topic`, set anew, or left out where the value is None."""
    document: dict[str, Any] = yaml.safe_load(yaml.safe_dump(SMALLEST))
    for field, value in changes.items():
        *parents, last = field.split(".") if isinstance(field, str) else [field]
        part = document
        for parent in parents:
            part = part.setdefault(parent, {})
        if value is None:
            del part[last]
        else:
            part[last] = value
    return document


def _refusal(file: Path, document: object) -> str:
    """What a person reads of this document, without the file's name at its end."""
    with pytest.raises(SpecError) as caught:
        read_spec(_write(file, document))
    assert caught.value.file == str(file)
    return str(caught.value).removesuffix(f" ({file})")


# Good ones


def test_the_specs_of_the_project_are_good() -> None:
    found = load_specs([CRYPTO_RATES.parent])
    assert "crypto_rates" in [loaded.name for loaded in found]
    assert [loaded.error for loaded in found if loaded.error] == []


def test_a_spec_says_what_its_file_says() -> None:
    spec = read_spec(CRYPTO_RATES)
    assert spec.batch is not None
    assert (spec.batch.schedule, spec.live.topic) == ("0 1 * * *", "bigquery-to-pubsub-test0")
    assert (spec.key, spec.source_key) == (("request", "symbol"), ("oracle_request_id",))
    assert (spec.event_time, spec.source_time) == ("timestamp", "block_timestamp_truncated")
    assert spec.watchdog.silence == timedelta(seconds=5)
    assert (spec.view, spec.dead_letters) == ("temp_crypto_batch.rates_live", "temp_crypto_batch.dead_letters")
    assert spec.subscription == "bigquery-to-pubsub-test0-crypto-rates"


def test_the_smallest_spec_needs_a_name_a_time_a_stream_and_a_source() -> None:
    spec = StreamSpec.model_validate(SMALLEST)
    assert spec.batch is None
    assert (spec.view, spec.dead_letters) == ("web.clicks_live", "web.clicks_dead_letters")
    assert (spec.source_time, spec.source_key) == ("at", ())
    assert spec.replay is not None
    assert spec.replay.speed == 1
    assert spec.pipeline.columns is None


def test_a_stream_without_a_replay_is_watched_by_what_arrives_or_is_counted() -> None:
    spec = StreamSpec.model_validate(FOREIGN)
    assert spec.replay is None
    assert (spec.source_time, spec.source_key, spec.ordering_key) == ("at", (), ())
    assert (spec.subscription, spec.tap) == ("clicks-clicks", "clicks-clicks-tap")


def test_a_stream_is_watched_by_one_probe_or_several() -> None:
    def probes(given: object) -> tuple[str, ...]:
        return StreamSpec.model_validate(_changed({"watchdog.probe": given})).watchdog.probe

    assert StreamSpec.model_validate(SMALLEST).watchdog.probe == ("heartbeat",)
    assert [probes("tap"), probes(["heartbeat", "tap", "metric"])] == [("tap",), ("heartbeat", "tap", "metric")]


def test_the_comparison_with_the_source_runs_nightly_or_by_hand_only() -> None:
    def schedule(changes: dict[str, Any]) -> str | None:
        return StreamSpec.model_validate(SMALLEST | changes).reconcile.schedule

    assert [schedule({}), schedule({"reconcile": {"schedule": None}})] == ["30 2 * * *", None]


@pytest.mark.parametrize(
    ("text", "duration"),
    [("500ms", {"milliseconds": 500}), ("5s", {"seconds": 5}), ("1.5m", {"seconds": 90}), ("2h", {"hours": 2})],
)
def test_a_duration_has_a_number_and_a_unit(text: str, duration: dict[str, float]) -> None:
    assert StreamSpec.model_validate(_changed({"watchdog.silence": text})).watchdog.silence == timedelta(**duration)


def test_speed_is_a_number_or_max() -> None:
    replays = [StreamSpec.model_validate(_changed({"replay.speed": each})).replay for each in (60, 0.5, "max")]
    assert [replay and replay.speed for replay in replays] == [60, 0.5, "max"]


@pytest.mark.parametrize("speed", [0.001, 1_000_000, "0.001", "1e6"])
def test_the_bounds_of_a_speed_are_speeds(speed: float | str) -> None:
    replay = StreamSpec.model_validate(_changed({"replay.speed": speed})).replay
    assert replay is not None
    assert replay.speed == float(speed)


def test_a_spec_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        StreamSpec.model_validate(SMALLEST).stream = "other"


def test_every_field_is_described_in_the_schema() -> None:
    schema = StreamSpec.model_json_schema()
    for part in (schema, *(each for each in schema["$defs"].values() if "properties" in each)):
        for name, field in part["properties"].items():
            described = "description" in field or "$ref" in field or "anyOf" in field
            assert described, f"{part['title']}.{name} is not described"


# Bad ones

WRONG: dict[str, tuple[dict[Any, Any], str]] = {
    "an unknown field": (
        {"owner_name": "me"},
        "owner_name: there is no such field. Is owner meant? Fields here: stream, description, owner, tags, "
        "event_time, key, cluster, batch, live, replay, watchdog, reconcile.",
    ),
    "an unknown field of a part": (
        {"replay.sped": 2},
        "replay.sped: there is no such field. Is speed meant? Fields here: source, speed, standby, ordering_key.",
    ),
    "an ordering key that is not of the key": (
        {"replay.ordering_key": ["symbol"]},
        f"replay.ordering_key names 'symbol': it must be of the source's key, which is empty. {SCHEMA_HINT}",
    ),
    "an unknown field of the source": (
        {"replay.source.tabel": "a.b"},
        "replay.source.tabel: there is no such field. Is table meant? Fields here: "
        "table, query, files, generator, api, headers, raw, reader, options, every, time, time_unit, key.",
    ),
    "a missing field": (
        {"event_time": None},
        "event_time: it is missing. Add it; `rejeu schema` describes every field.",
    ),
    "a wrong type": ({"owner": 5}, f"owner: it is 5: Input should be a valid string. {SCHEMA_HINT}"),
    "a text for a list": ({"tags": "web"}, f"tags: it is 'web': Input should be a valid tuple. {SCHEMA_HINT}"),
    "a name that is no text": ({1: "clicks"}, f"1: it is 1: Keys should be strings. {SCHEMA_HINT}"),
    "a number for a part": (
        {"live": 5},
        f"live: it is 5: Input should be a valid dictionary or instance of Live. {SCHEMA_HINT}",
    ),
    "a field that is misspelt and so is missing": (
        {"event_time": None, "eventtime": "at"},
        "eventtime: there is no such field (1 more after this one). Is event_time meant? Fields here: stream, "
        "description, owner, tags, event_time, key, cluster, batch, live, replay, watchdog, reconcile.",
    ),
    "a form in a path": (
        {"replay.source": {"files": "gs://{bucket!r}/x"}},
        "replay.source.files: it is 'gs://{bucket!r}/x': {bucket} has a form, and is filled as it is; write {bucket} "
        f"only. {SCHEMA_HINT}",
    ),
    "a width in a path": (
        {"batch": {"files": "gs://b/{partition:>9999}", "table": "web.batch"}},
        "batch.files: it is 'gs://b/{partition:>9999}': {partition} has a form, and is filled as it is; write {bucket} "
        f"and {{partition}} only. {SCHEMA_HINT}",
    ),
    "a quote in a path, which stands in SQL": (
        {"batch": {"files": "gs://b/{partition}' OR TRUE --", "table": "web.batch"}},
        "batch.files: it is \"gs://b/{partition}' OR TRUE --\": a file's path must be without quotes, backslashes and "
        f"line breaks. {SCHEMA_HINT}",
    ),
    "a brace that stays open": (
        {"batch": {"files": "gs://b/{partition", "table": "web.batch"}},
        "batch.files: it is 'gs://b/{partition': expected '}' before end of string; write {bucket} and {partition} "
        f"only. {SCHEMA_HINT}",
    ),
    "a day that is written and not filled": (
        {"batch": {"files": "gs://b/{{partition}}", "table": "web.batch"}},
        "batch: files is 'gs://b/{{partition}}': it must say where one day's files lie; put {partition} into the path. "
        + SCHEMA_HINT,
    ),
    "an API that is a file": (
        {"replay.source": {"api": "file:///etc/passwd", "raw": "gs://b/{partition}"}},
        "replay.source.api: it is 'file:///etc/passwd': it must be a web address, https://HOST/PATH or "
        f"http://HOST/PATH. {SCHEMA_HINT}",
    ),
    "a tag that Airflow refuses": (
        {"tags": ["x" * 101]},
        f"tags.0: it is '{'x' * 37}...{'x' * 38}': it must have 1 to 100 characters. {SCHEMA_HINT}",
    ),
    "a text that a database refuses": (
        {"description": "a\0b"},
        f"description: it is 'a\\x00b': it must have characters that can be seen, and no others. {SCHEMA_HINT}",
    ),
    "a day that never comes": (
        {"reconcile.schedule": "0 0 30 2 *"},
        f"reconcile.schedule: it is '0 0 30 2 *': there is no such day; name one that comes. {SCHEMA_HINT}",
    ),
    "too many columns to cluster by": (
        {"cluster": list("abcde")},
        "cluster: it is ['a', 'b', 'c', 'd', 'e']: Tuple should have at most 4 items after validation, not 5. "
        + SCHEMA_HINT,
    ),
    "a table that is replayed into itself": (
        {"replay.source.table": "web.clicks"},
        "replay.source.table: it is 'web.clicks', which the stream writes: it would replay itself for ever. "
        "Name another table.",
    ),
    "a name that is no stream's": (
        {"stream": "Web-Clicks"},
        "stream: it is 'Web-Clicks': it must be 3 to 63 small letters, digits and underscores, of which the first is a "
        f"letter. {SCHEMA_HINT}",
    ),
    "speed 0": (
        {"replay.speed": 0},
        f"replay.speed: it is 0: {SPEED_RULE}. {SCHEMA_HINT}",
    ),
    "a speed below 0": (
        {"replay.speed": -2},
        f"replay.speed: it is -2: {SPEED_RULE}. {SCHEMA_HINT}",
    ),
    "a speed in words": (
        {"replay.speed": "fast"},
        f"replay.speed: it is fast: {SPEED_RULE}. {SCHEMA_HINT}",
    ),
    "an endless speed": (
        {"replay.speed": float("inf")},
        f"replay.speed: it is inf: {SPEED_RULE}. {SCHEMA_HINT}",
    ),
    "a speed beyond every clock": (
        {"replay.speed": 1e308},
        f"replay.speed: it is 1e+308: {SPEED_RULE}. {SCHEMA_HINT}",
    ),
    "a speed that stands still": (
        {"replay.speed": "1e-300"},
        f"replay.speed: it is 1e-300: {SPEED_RULE}. {SCHEMA_HINT}",
    ),
    "an unknown pipeline": (
        {"live.pipeline": "rate"},
        "live.pipeline: it is 'rate': it must be one of clicks, occupancy, passthrough, rates, sensor_means, stations. "
        + SCHEMA_HINT,
    ),
    "an unknown probe": (
        {"watchdog.probe": "guess"},
        f"watchdog.probe.0: it is 'guess': it must be one of heartbeat, metric, tap. {SCHEMA_HINT}",
    ),
    "no probe": (
        {"watchdog.probe": []},
        f"watchdog.probe: it is []: Value should have at least 1 item after validation, not 0. {SCHEMA_HINT}",
    ),
    "a probe that is named twice": (
        {"watchdog.probe": ["tap", "metric", "tap"]},
        f"watchdog: probe is ['tap', 'metric', 'tap']: name each probe once. {SCHEMA_HINT}",
    ),
    "a heartbeat of what somebody else publishes": (
        {"replay": None},
        "watchdog.probe has 'heartbeat' and there is no replay: what somebody else publishes has no heartbeat of ours; "
        f"watch it with probe: tap or metric. {SCHEMA_HINT}",
    ),
    "no attempt": (
        {"watchdog.attempts": 0},
        f"watchdog.attempts: it is 0: Input should be greater than or equal to 1. {SCHEMA_HINT}",
    ),
    "a metric of something else": (
        {"watchdog.metric": "pubsub.googleapis.com/subscription/ack_latencies"},
        "watchdog.metric: it is 'pubsub.googleapis.com/subscription/ack_latencies': Input should be "
        "'pubsub.googleapis.com/topic/send_request_latencies', 'pubsub.googleapis.com/topic/send_request_count' or "
        f"'pubsub.googleapis.com/topic/send_message_operation_count'. {SCHEMA_HINT}",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_spec_is_refused_with_field_reason_and_remedy(wrong: str, tmp_path: Path) -> None:
    changes, message = WRONG[wrong]
    assert _refusal(tmp_path / "clicks.yaml", _changed(changes)) == message


@pytest.mark.parametrize("cron", ["0 25 * * *", "@daily", "0 1 * *", "0 1 * * * *", "daily", "61 * * * *", ""])
def test_a_schedule_is_a_cron_expression_of_five_fields(cron: str, tmp_path: Path) -> None:
    batch = {"files": "gs://b/{partition}", "table": "web.batch", "schedule": cron}
    rule = f'it is {cron!r}: it must be a cron expression of five fields, such as "0 1 * * *" (UTC)'
    for part, fields in (("batch", batch), ("reconcile", {"schedule": cron})):
        refusal = _refusal(tmp_path / "clicks.yaml", SMALLEST | {part: fields})
        assert refusal == f"{part}.schedule: {rule}. {SCHEMA_HINT}"


@pytest.mark.parametrize("field", ["watchdog.silence", "watchdog.grace", "reconcile.settle"])
@pytest.mark.parametrize("duration", ["5", 5, "5 s", "-5s", "0s", "5d", "soon", "s", True])
def test_a_duration_without_number_or_unit_is_refused(field: str, duration: object, tmp_path: Path) -> None:
    rule = f"it is {duration!r}: it must be a number above 0 and a unit, such as 500ms, 5s, 2m or 1h"
    assert _refusal(tmp_path / "clicks.yaml", _changed({field: duration})) == f"{field}: {rule}. {SCHEMA_HINT}"


@pytest.mark.parametrize("duration", ["99999999999999h", "9" * 400 + "s", "0.000001ms"])
def test_a_duration_beyond_every_clock_is_refused(duration: str, tmp_path: Path) -> None:
    refusal = _refusal(tmp_path / "clicks.yaml", _changed({"watchdog.silence": duration}))
    assert "it must be from 1ms to 87600h, which is ten years" in refusal


@pytest.mark.parametrize("name", ["Clicks", "web-clicks", "1clicks", "ab", "a" * 64, "a/b", "a.b", ""])
def test_a_stream_has_a_name_that_jobs_and_dags_can_have(name: str, tmp_path: Path) -> None:
    assert _refusal(tmp_path / "clicks.yaml", _changed({"stream": name})).startswith(f"stream: it is {name!r}: ")


@pytest.mark.parametrize("table", ["clicks", "a.b.c.d", "web.`clicks`", "web.clicks; DROP TABLE x", "web.", "w-b.t"])
def test_a_table_is_named_with_its_dataset(table: str, tmp_path: Path) -> None:
    assert _refusal(tmp_path / "clicks.yaml", _changed({"live.table": table})).startswith(
        f"live.table: it is {table!r}"
    )


def test_more_than_one_mistake_is_counted(tmp_path: Path) -> None:
    refusal = _refusal(tmp_path / "clicks.yaml", _changed({"owner": 5, "replay.speed": 0, "event_time": None}))
    assert "(2 more after this one)" in refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "stream: [clicks\nlive: 1\n",
            "line 2, column 5: it is not YAML: did not find expected ',' or ']'. Mend the line.",
        ),
        (
            "stream: a\n\tlive: b\n",
            "line 2, column 1: it is not YAML: found a tab character that violates indentation.",
        ),
        ("stream: 'clicks\n", "line 2, column 1: it is not YAML: found unexpected end of stream."),
        ("stream: clicks\nstream: taps\n", "line 2, column 1: it is not YAML: 'stream' is there twice. Mend the line."),
        ("stream: 2021-13-45\n", "line 1, column 9: it is not YAML: month must be in 1..12. Mend the line."),
        ("stream: \0\n", "it is not YAML: unacceptable character #x0000"),
        ("[" * 3_000, "line 1, column 21: it is not YAML: lists and mappings lie in each other more than 20 deep"),
        ("", "it holds NoneType, not a mapping. Start with `stream: my_stream`."),
        ("- clicks\n", "it holds list, not a mapping. Start with `stream: my_stream`."),
    ],
)
def test_what_is_no_yaml_mapping_is_refused_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    assert _refusal(tmp_path / "clicks.yaml", text).startswith(message)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "clicks.yaml"
    file.write_bytes(b"stream: \xff\xfe")
    with pytest.raises(SpecError, match="it is not UTF-8: see byte 8"):
        read_spec(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(tmp_path / "none.yaml")
    assert str(caught.value) == f"it cannot be read (No such file or directory). Check the path. ({tmp_path}/none.yaml)"


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=5), st.none() | st.text() | st.integers() | st.lists(st.text()), max_size=4))
def test_whatever_is_written_into_a_part_is_a_spec_or_a_spec_error(
    tmp_path_factory: pytest.TempPathFactory, part: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    for name in ("live", "replay", "batch", "watchdog", "reconcile", "event_time"):
        [loaded] = load_files([_write(file, SMALLEST | {name: part})])
        assert (loaded.spec is None) == (loaded.error is not None)
