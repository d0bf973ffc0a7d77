"""Records of bike stations become rows, whether they come one by one or as whole answers in raw files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.batch import run
from beam_jobs.pipelines.stations.transform import make_decoder, transform
from beam_jobs.reconcile import Found, Reconciler
from beam_jobs.transforms.records import Message
from rejeu.jobs.request import PipelineRequest, ReconcileRequest
from rejeu.local.servers.open_data import records_at
from rejeu.replay.reading import read_chunks
from rejeu.spec.pipelines import PIPELINES
from tests.beam_jobs.builders import counter, make_message, pipeline_here

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
OBSERVED_AT = "2026-11-20T12:00:00.000000Z"
ASKED = PipelineRequest(stream="crypto_rates", pipeline="stations")


def make_record(**changes: Any) -> dict[str, Any]:
    """A record as a message has it; `changes` replace its fields."""
    (record,) = records_at(NOON, 1)
    return {"observed_at": OBSERVED_AT, **record, "fields": record["fields"] | changes}


def decode(record: dict[str, Any]) -> dict[str, Any]:
    (row,) = make_decoder()(json.dumps(record).encode())
    return row


def test_a_record_becomes_the_pipelines_columns() -> None:
    row = decode(make_record(nbvelosdispo=5, nbplacesdispo=11, localisation=[50.5, 3.25]))
    assert list(row) == [column.name for column in PIPELINES["stations"].columns or ()]
    assert row.pop("recordid")
    assert row == {
        "observed_at": OBSERVED_AT,
        "record_timestamp": OBSERVED_AT,
        "libelle": "1",
        "nom": "STATION 001",
        "adresse": "31 RUE NATIONALE",
        "commune": "LILLE",
        "etat": "EN SERVICE",
        "etatconnexion": "CONNECTED",
        "type": "SANS TPE",
        "nbvelosdispo": 5,
        "nbplacesdispo": 11,
        "latitude": 50.5,
        "longitude": 3.25,
        "datemiseajour": "2026-11-20T11:59:01.000000Z",
    }


def test_what_a_station_does_not_say_is_null() -> None:
    row = decode({"observed_at": OBSERVED_AT, "recordid": "x", "fields": {"libelle": "7"}})
    assert {name for name, value in row.items() if value is not None} == {"observed_at", "recordid", "libelle"}
    assert decode(make_record(localisation=None))["latitude"] is None


def test_a_station_may_be_a_number_and_times_may_have_any_zone() -> None:
    row = decode(make_record(libelle=36, datemiseajour="2026-11-20T13:00:00+01:00"))
    assert (row["libelle"], row["datemiseajour"]) == ("36", OBSERVED_AT)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (make_record(nbvelosdispo="12"), r"Expected `int \| null`, got `str` - at `\$.fields.nbvelosdispo`"),
        (make_record(nbvelosdispo=3.5), r"got `float` - at `\$.fields.nbvelosdispo`"),
        (make_record(localisation=[50.5]), r"length >= 2 - at `\$.fields.localisation`"),
        (make_record(libelle=None), r"got `null` - at `\$.fields.libelle`"),
        (make_record(datemiseajour="yesterday"), "fields.datemiseajour: 'yesterday' is not a time"),
        (make_record() | {"record_timestamp": "2026-11-20T12:00:00"}, "record_timestamp: .* has no time zone"),
        (make_record() | {"observed_at": None}, r"got `null` - at `\$.observed_at`"),
        ({"observed_at": OBSERVED_AT, "recordid": "x"}, "missing required field `fields`"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason_that_names_the_field(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(record)


def test_a_message_keeps_its_id_and_a_record_of_an_answer_gets_one_of_its_place() -> None:
    line = {"records": records_at(NOON, 2), "observed_at": OBSERVED_AT}
    messages = [make_message(make_record(), row_id="bikes/1/a/0"), make_message(line, row_id="raw/120000.json:1")]
    with pipeline_here() as pipeline:
        rows, _ = pipeline | Create(messages) | transform(ASKED)
        assert_that(rows, lambda found: _check([row.row_id for row in found]))
    assert counter(pipeline, "in") == 3


def _check(row_ids: list[str]) -> None:
    assert sorted(row_ids) == ["bikes/1/a/0", "raw/120000.json:1#0", "raw/120000.json:1#1"]


def test_one_wrong_record_costs_no_other_one_of_its_answer() -> None:
    good = records_at(NOON, 2)
    line = {"records": [good[0], 7, {}, good[1]], "observed_at": OBSERVED_AT}
    with pipeline_here() as pipeline:
        rows, dead = pipeline | Create([make_message(line, row_id="f:1")]) | transform(ASKED)
        wanted = [decode({"observed_at": OBSERVED_AT, **record}) for record in good]
        assert_that(rows, equal_to([("f:1#0", wanted[0]), ("f:1#3", wanted[1])], lambda a, b: (b[0], b[1]) == a))
        assert_that(dead, lambda letters: _check_dead(letters), "dead letters")


def _check_dead(letters: list[Any]) -> None:
    found = {each.row_id: (each.values["payload"], each.values["reason"]) for each in letters}
    assert found["f:1#1"] == ("7", "Expected `object`, got `int`")
    assert found["f:1#2"][1] == "Object missing required field `recordid`"
    assert len(found) == 2


def test_raw_files_become_the_rows_that_were_streamed(tmp_path: Path) -> None:
    records = records_at(NOON, 20)
    (tmp_path / "120000.json").write_text(json.dumps({"records": records, "observed_at": OBSERVED_AT}) + "\n")
    flags = {"stream": "bikes", "pipeline": "stations", "files": f"{tmp_path}/*.json", "output": f"{tmp_path}/out"}
    run([f"--{name}={value}" for name, value in flags.items()] + ["--event-time=observed_at", "--partition=2026-11-20"])
    loaded = [json.loads(line) for file in (tmp_path / "out").glob("rows-*") for line in file.open()]
    streamed = [decode({"observed_at": OBSERVED_AT, **record}) for record in records]
    assert sorted(loaded, key=lambda row: row["recordid"]) == sorted(streamed, key=lambda row: row["recordid"])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (msgspec.json.encode({"records": records_at(NOON, 2), "observed_at": OBSERVED_AT})[:-40], "was truncated"),
        (b'{"records": [{"x": ' + b"[" * 100_000, "recursion depth"),
    ],
    ids=["truncated", "nested too deeply"],
)
def test_a_broken_line_is_one_dead_letter(line: bytes, reason: str) -> None:
    def look(letters: list[Any]) -> None:
        [letter] = letters
        assert reason in letter.values["reason"]

    with pipeline_here() as pipeline:
        rows, dead = pipeline | Create([Message("f:1", line, {})]) | transform(ASKED)
        assert_that(rows, equal_to([]), "no rows")
        assert_that(dead, look, "one dead letter")


def test_a_record_that_the_table_lacks_is_found_by_comparing_with_the_raw_files(tmp_path: Path) -> None:
    (tmp_path / "2026-11-20").mkdir()
    kept = json.dumps({"records": records_at(NOON, 3), "observed_at": OBSERVED_AT})
    (tmp_path / "2026-11-20" / "120000.json").write_text(kept)
    request = ReconcileRequest.of(
        topic="projects/rejeu-test/topics/t",
        stream="bikes",
        key=("fields.libelle",),
        api="http://nobody.invalid/",
        raw=f"{tmp_path}/{{partition}}",
        event_time="observed_at",
        until="2026-11-20T12:01:00Z",
        pipeline="stations",
        settle_seconds=0,
        streaming_table="p.d.t",
        streaming_time="observed_at",
        dead_letters="p.d.dead",
    )
    written = [f"bikes/1795176000000000/{station}/0" for station in (1, 3)]
    again: list[str] = []

    def look(window: object) -> Found:
        return Found(pa.array(written + again, pa.large_string()), np.ones(len(written + again), np.int64))

    def publish(messages: Iterable[Any]) -> None:
        again.extend(each.row_id for each in messages)

    found = Reconciler(request, look, publish, pause=lambda seconds: None).run(read_chunks(request.reading, None))
    assert (found.expected, found.missing, found.healed) == (3, 1, 1)
    assert again == ["bikes/1795176000000000/2/0"]
