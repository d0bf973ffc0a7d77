"""Specs: good ones read whole, bad ones refused alone, each with file, field, reason and remedy."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.errors import SpecError
from rejeu.spec import Loaded, StreamSpec, load_files, load_specs, read_spec

CRYPTO_RATES = Path(__file__).parents[2] / "dags" / "streams" / "crypto_rates.yaml"
SCHEMA_HINT = "`rejeu schema` describes every field."
SMALLEST: dict[str, Any] = {
    "stream": "clicks",
    "event_time": "at",
    "live": {"topic": "clicks", "table": "web.clicks"},
    "replay": {"source": {"table": "web.history"}},
}


@pytest.fixture
def streams(tmp_path: Path) -> Path:
    folder = tmp_path / "streams"
    folder.mkdir()
    return folder


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
    """What a person reads of this document, without the file's name in front."""
    with pytest.raises(SpecError) as caught:
        read_spec(_write(file, document))
    assert caught.value.file == str(file)
    return str(caught.value).removeprefix(f"{file}: ")


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
    assert (spec.source_time, spec.source_key, spec.replay.speed) == ("at", (), 1)
    assert spec.pipeline.columns is None


@pytest.mark.parametrize(
    ("text", "duration"),
    [("500ms", {"milliseconds": 500}), ("5s", {"seconds": 5}), ("1.5m", {"seconds": 90}), ("2h", {"hours": 2})],
)
def test_a_duration_has_a_number_and_a_unit(text: str, duration: dict[str, float]) -> None:
    assert StreamSpec.model_validate(_changed({"watchdog.silence": text})).watchdog.silence == timedelta(**duration)


def test_speed_is_a_number_or_max() -> None:
    speeds = [StreamSpec.model_validate(_changed({"replay.speed": each})).replay.speed for each in (60, 0.5, "max")]
    assert speeds == [60, 0.5, "max"]


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
        "owner_name: there is no such field. Fields here: stream, description, owner, tags, event_time, key, cluster, "
        "batch, live, replay, watchdog.",
    ),
    "an unknown field of a part": (
        {"replay.sped": 2},
        "replay.sped: there is no such field. Fields here: source, speed, standby, ordering_key.",
    ),
    "an ordering key that is not of the key": (
        {"replay.ordering_key": ["symbol"]},
        f"replay.ordering_key names 'symbol': it must be of the source's key, which is empty. {SCHEMA_HINT}",
    ),
    "an unknown field of the source": (
        {"replay.source.tabel": "a.b"},
        "replay.source.tabel: there is no such field. Fields here: "
        "table, query, files, generator, time, time_unit, key.",
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
    "speed 0": (
        {"replay.speed": 0},
        f'replay.speed: it is 0: it must be a number above 0, or "max". {SCHEMA_HINT}',
    ),
    "a speed below 0": (
        {"replay.speed": -2},
        f'replay.speed: it is -2: it must be a number above 0, or "max". {SCHEMA_HINT}',
    ),
    "a speed in words": (
        {"replay.speed": "fast"},
        f'replay.speed: it is fast: it must be a number above 0, or "max". {SCHEMA_HINT}',
    ),
    "an endless speed": (
        {"replay.speed": float("inf")},
        f'replay.speed: it is inf: it must be a number above 0, or "max". {SCHEMA_HINT}',
    ),
    "an unknown pipeline": (
        {"live.pipeline": "rate"},
        f"live: pipeline is 'rate': it must be one of passthrough, rates. {SCHEMA_HINT}",
    ),
    "an unknown probe": (
        {"watchdog.probe": "guess"},
        f"watchdog.probe: it is 'guess': Input should be 'heartbeat'. {SCHEMA_HINT}",
    ),
    "no source": (
        {"replay.source": {}},
        "replay.source: it has none of them: it must have exactly one of table, query, files and generator. "
        + SCHEMA_HINT,
    ),
    "two sources": (
        {"replay.source.generator": "taps"},
        "replay.source: it has table and generator: it must have exactly one of table, query, files and generator. "
        + SCHEMA_HINT,
    ),
    "an event time that the pipeline does not write": (
        {"live.pipeline": "rates"},
        "event_time names 'at': pipeline rates writes timestamp, request, symbol, rate, date_str; name one. "
        + SCHEMA_HINT,
    ),
    "a key that the pipeline does not write": (
        {"live.pipeline": "rates", "event_time": "timestamp", "key": ["user"]},
        "key names 'user': pipeline rates writes timestamp, request, symbol, rate, date_str; name one. " + SCHEMA_HINT,
    ),
    "a table that is named twice": (
        {"live.view": "web.clicks"},
        f"table web.clicks is named twice: batch, streaming, view and dead letters differ. {SCHEMA_HINT}",
    ),
    "a name that nothing fills": (
        {"batch": {"files": "gs://{bukket}/{partition}", "table": "web.batch"}},
        "batch.files: it is 'gs://{bukket}/{partition}': nothing fills {bukket}; write {bucket} and {partition} only. "
        + SCHEMA_HINT,
    ),
    "a partition of what is replayed whole": (
        {"replay.source": {"files": "gs://{bucket}/{partition}"}},
        "replay.source.files: it is 'gs://{bucket}/{partition}': nothing fills {partition}; write {bucket} only. "
        + SCHEMA_HINT,
    ),
    "a brace that stands alone": (
        {"replay.source": {"files": "gs://bucket/}"}},
        f"replay.source.files: it is 'gs://bucket/}}': Single '}}' encountered in format string. {SCHEMA_HINT}",
    ),
    "a batch without a partition": (
        {"batch": {"files": "gs://bucket/all", "table": "web.batch"}},
        "batch: files is 'gs://bucket/all': it must say where one day's files lie; put {partition} into the path. "
        + SCHEMA_HINT,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_spec_is_refused_with_field_reason_and_remedy(wrong: str, tmp_path: Path) -> None:
    changes, message = WRONG[wrong]
    assert _refusal(tmp_path / "clicks.yaml", _changed(changes)) == message


@pytest.mark.parametrize("cron", ["0 25 * * *", "@daily", "0 1 * *", "0 1 * * * *", "daily", "61 * * * *", ""])
def test_a_schedule_is_a_cron_expression_of_five_fields(cron: str, tmp_path: Path) -> None:
    document = _changed({"batch": {"files": "gs://b/{partition}", "table": "web.batch", "schedule": cron}})
    rule = f'it is {cron!r}: it must be a cron expression of five fields, such as "0 1 * * *" (UTC)'
    assert _refusal(tmp_path / "clicks.yaml", document) == f"batch.schedule: {rule}. {SCHEMA_HINT}"


@pytest.mark.parametrize("field", ["silence", "grace"])
@pytest.mark.parametrize("duration", ["5", 5, "5 s", "-5s", "0s", "5d", "soon", "s", True])
def test_a_duration_without_number_or_unit_is_refused(field: str, duration: object, tmp_path: Path) -> None:
    rule = f"it is {duration!r}: it must be a number above 0 and a unit, such as 500ms, 5s, 2m or 1h"
    message = f"watchdog.{field}: {rule}. {SCHEMA_HINT}"
    assert _refusal(tmp_path / "clicks.yaml", _changed({f"watchdog.{field}": duration})) == message


@pytest.mark.parametrize("duration", ["99999999999999h", "9" * 400 + "s"])
def test_a_duration_beyond_every_clock_is_refused(duration: str, tmp_path: Path) -> None:
    refusal = _refusal(tmp_path / "clicks.yaml", _changed({"watchdog.silence": duration}))
    assert "no clock counts that far; give seconds, minutes or hours" in refusal


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
            "line 2, column 5: it is not YAML: expected ',' or ']', but got ':'. Mend the line.",
        ),
        (
            "stream: a\n\tlive: b\n",
            "line 2, column 1: it is not YAML: found character '\\t' that cannot start any token.",
        ),
        ("stream: 'clicks\n", "line 2, column 1: it is not YAML: found unexpected end of stream."),
        ("stream: clicks\nstream: taps\n", "line 2, column 1: it is not YAML: 'stream' is there twice. Mend the line."),
        ("stream: 2021-13-45\n", "it is not YAML: month must be in 1..12. Mend the line."),
        ("stream: \0\n", "it is not YAML: unacceptable character #x0000"),
        ("[" * 3_000, "it is not YAML: maximum recursion depth exceeded"),
        ("", "it holds NoneType, not a mapping. Start with `stream: my_stream`."),
        ("- clicks\n", "it holds list, not a mapping. Start with `stream: my_stream`."),
    ],
)
def test_what_is_no_yaml_mapping_is_refused_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    assert _refusal(tmp_path / "clicks.yaml", text).startswith(message)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "clicks.yaml"
    file.write_bytes(b"stream: \xff\xfe")
    with pytest.raises(SpecError, match="it is not YAML"):
        read_spec(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: it cannot be read (No such file or directory). Check the path."


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=5), st.none() | st.text() | st.integers() | st.lists(st.text()), max_size=4))
def test_whatever_is_written_into_a_part_is_a_spec_or_a_spec_error(
    tmp_path_factory: pytest.TempPathFactory, part: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    for name in ("live", "replay", "batch", "watchdog", "event_time"):
        [loaded] = load_files([_write(file, SMALLEST | {name: part})])
        assert (loaded.spec is None) == (loaded.error is not None)


# Many


def _by_file(found: list[Loaded]) -> dict[str, str]:
    return {loaded.file.name: "ok" if loaded.error is None else loaded.error.field or "whole" for loaded in found}


def test_a_bad_spec_breaks_itself_alone(streams: Path) -> None:
    _write(streams / "a.yaml", "stream: [")
    _write(streams / "b.yaml", SMALLEST)
    _write(streams / "c.yaml", _changed({"stream": "other", "replay.speed": 0}))
    assert _by_file(load_specs([streams])) == {"a.yaml": "line 1, column 10", "b.yaml": "ok", "c.yaml": "replay.speed"}


def test_two_streams_of_one_name_are_both_refused_and_each_names_the_other(streams: Path) -> None:
    one, other = _write(streams / "a.yaml", SMALLEST), _write(streams / "b.yml", SMALLEST)
    found = load_specs([streams])
    assert [str(loaded.error) for loaded in found] == [
        f"{one}: stream: 'clicks' is also the stream of {other}. Give each stream a name of its own.",
        f"{other}: stream: 'clicks' is also the stream of {one}. Give each stream a name of its own.",
    ]
    assert [loaded.name for loaded in found] == ["a", "b"]


def test_streams_of_one_name_in_two_folders_are_refused_too(streams: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    _write(streams / "a.yaml", SMALLEST)
    _write(tmp_path / "more" / "b.yaml", SMALLEST)
    assert _by_file(load_specs([streams, tmp_path / "more"])) == {"a.yaml": "stream", "b.yaml": "stream"}


def test_a_broken_file_takes_no_name_from_a_good_one(streams: Path) -> None:
    _write(streams / "clicks.yaml", "stream: [")
    _write(streams / "new_clicks.yaml", SMALLEST)
    assert _by_file(load_specs([streams])) == {"clicks.yaml": "line 1, column 10", "new_clicks.yaml": "ok"}


def test_only_yaml_files_are_specs(streams: Path) -> None:
    for name in ("notes.md", "stream.schema.json", "a.yaml.bak"):
        _write(streams / name, "stream: [")
    _write(streams / "clicks.yml", SMALLEST)
    assert _by_file(load_specs([streams])) == {"clicks.yml": "ok"}


def test_a_folder_that_is_not_there_holds_no_specs(tmp_path: Path) -> None:
    assert load_specs([tmp_path / "none"]) == []
