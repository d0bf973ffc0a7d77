"""What a stream needs of others before it starts: each check says what it found, or what will not do and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api_core.exceptions import Forbidden, NotFound
from google.cloud.bigquery import SchemaField, Table
from google.pubsub_v1.types import Subscription

from rejeu import checks, cli
from rejeu.cli import homes
from rejeu.errors import RejeuError, RequestError, SourceError
from rejeu.gcp import clients
from rejeu.gcp.topics import DELETED_TOPIC
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from rejeu.target import Target
from tests.paths import STREAMS

TARGET = Target(project="rejeu-test", bucket="b")
SOURCE = "rejeu-test.web.history"
COLUMNS = [
    SchemaField("at", "TIMESTAMP"),
    SchemaField("user", "STRING"),
    SchemaField("ms", "INTEGER"),
    SchemaField("price", "FLOAT"),
    SchemaField("tags", "STRING", "REPEATED"),
    SchemaField("place", "RECORD", fields=[SchemaField("city", "STRING"), SchemaField("at", "TIMESTAMP")]),
]
JOBS = "projects/rejeu-test/subscriptions/clicks-clicks"
TOPIC = "projects/rejeu-test/topics/clicks"


class FakeTables:
    """BigQuery with these tables; it is asked, and never told to make anything."""

    def __init__(self, *tables: Table) -> None:
        self.tables = {f"{each.project}.{each.dataset_id}.{each.table_id}": each for each in tables}
        self.refuses = False

    def get_table(self, name: str, **_: Any) -> Table:
        if self.refuses:
            raise Forbidden("no right")
        if name not in self.tables:
            raise NotFound(f"{name} was not found")
        return self.tables[name]


class FakeSubscriptions:
    """Pub/Sub with these subscriptions."""

    def __init__(self, **changes: Any) -> None:
        made = {
            "name": JOBS,
            "topic": TOPIC,
            "ack_deadline_seconds": 20,
            "message_retention_duration": timedelta(days=7),
        }
        self.found = Subscription(**made | changes) if changes else None

    def get_subscription(self, subscription: str, **_: Any) -> Subscription:
        if self.found is None or self.found.name != subscription:
            raise NotFound(subscription)
        return self.found


def table(name: str, *fields: SchemaField, kind: str = "TABLE") -> Table:
    made = Table(name, schema=list(fields))
    made._properties["type"] = kind
    return made


@pytest.fixture
def spec_of(tmp_path: Path) -> Callable[..., StreamSpec]:
    def make(source: dict[str, Any] | None = None, **changes: Any) -> StreamSpec:
        document = {
            "stream": "clicks",
            "event_time": "at",
            "key": ["user"],
            "live": {"topic": "clicks", "table": "web.clicks"},
            "replay": {"source": {k: v for k, v in ({"table": "web.history"} | (source or {})).items() if v}},
        }
        file = tmp_path / "clicks.yaml"
        file.write_text(yaml.safe_dump(document | changes), encoding="utf-8")
        return read_spec(file)

    return make


@pytest.fixture
def bigquery() -> FakeTables:
    return FakeTables(table(SOURCE, *COLUMNS))


def looked(spec: StreamSpec, bigquery: Any, subscriptions: Any) -> dict[str, str]:
    """What each check said."""
    said = {}
    for name, look in checks.checks(spec, TARGET, lambda: bigquery, lambda: subscriptions).items():
        try:
            said[name] = look()
        except RejeuError as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def source(spec: StreamSpec, bigquery: Any) -> str:
    """What is found of the source."""
    return checks.look_at_source(spec, TARGET, bigquery)


def test_a_stream_that_can_run_is_told_what_it_has(spec_of: Callable[..., StreamSpec], bigquery: FakeTables) -> None:
    assert looked(spec_of(), bigquery, FakeSubscriptions()) == {
        "source": "6 columns; the time is at, TIMESTAMP; the key is user",
        "topic": f"`live` makes {JOBS}",
        "tables": "`live` makes rejeu-test.web.clicks, rejeu-test.web.clicks_dead_letters, rejeu-test.rejeu.incidents, "
        "rejeu-test.rejeu.reconciliations, rejeu-test.web.clicks_live",
    }


SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "a table that is not there": (
        {"table": "web.gone"},
        "SourceError: clicks: web.gone cannot be read: .*; check its na",
    ),
    "a time that is not there": (
        {"time": "when"},
        "SourceError: clicks: the source has no column when: event time when ",
    ),
    "a time that is a number": ({"time": "price"}, "column price is FLOAT: an event time is one of INT64, TIMESTAMP"),
    "a time without a unit": (
        {"time": "ms"},
        "column ms is INTEGER, and its unit is unknown: set replay.source.time_un",
    ),
    "a time that is many": (
        {"time": "tags"},
        "the source has more than one value in tags: event time tags must be one",
    ),
    "a key that is not there": (
        {"key": ["user", "session"]},
        "the source has no column session: key session must be on",
    ),
    "a key in a record": (
        {"key": ["place.town"]},
        "the source's column place has no column town: key place.town must b",
    ),
    "a key in a text": (
        {"key": ["user.name"]},
        "the source's column user has no column name: .* one of none, for it is",
    ),
    "a key that is many": ({"key": ["tags"]}, "the source has more than one value in tags: key tags must be one of at"),
    "a key that is a record": (
        {"key": ["place"]},
        "column place is a record, and no key; name one of place.city, place.at",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_source_that_will_not_do_is_told_and_the_rest_is_looked_at(
    case: str, spec_of: Callable[..., StreamSpec], bigquery: FakeTables
) -> None:
    changes, message = SOURCES[case]
    spec = spec_of(changes, live={"topic": "clicks", "table": "web.clicks", "pipeline": "passthrough"})
    with pytest.raises(SourceError) as caught:
        source(spec, bigquery)
    assert re.search(message, f"SourceError: {caught.value}")
    assert looked(spec, bigquery, FakeSubscriptions())["topic"] == f"`live` makes {JOBS}"


def test_a_number_with_its_unit_and_a_field_of_a_record_are_times(
    spec_of: Callable[..., StreamSpec], bigquery: FakeTables
) -> None:
    unit = spec_of({"time": "ms", "time_unit": "ms"})
    assert "the time is ms, INTEGER" in source(unit, bigquery)
    nested = spec_of({"time": "place.at", "key": ["place.city"]})
    said = source(nested, bigquery)
    assert said == "6 columns; the time is place.at, TIMESTAMP; the key is place.city"


def test_a_source_that_only_the_replay_may_read_keeps_no_stream_from_starting(bigquery: FakeTables) -> None:
    bigquery.refuses = True
    said = source(read_spec(STREAMS / "crypto_rates.yaml"), bigquery)
    assert said.startswith("this account may not look at it: crypto_rates: crypto_band.oracle_requests cannot be read")


def test_a_source_that_tells_the_columns_must_be_read(spec_of: Callable[..., StreamSpec], bigquery: FakeTables) -> None:
    bigquery.refuses = True
    with pytest.raises(SourceError, match=r"cannot be read: .*roles/bigquery\.dataViewer"):
        source(spec_of(), bigquery)


def test_a_file_that_is_not_there_is_told_and_one_that_is_gives_its_columns(
    spec_of: Callable[..., StreamSpec], tmp_path: Path, bigquery: FakeTables
) -> None:
    file = tmp_path / "a.ndjson"
    spec = spec_of({"table": None, "files": str(file)})
    with pytest.raises(SourceError, match="no file is named"):
        source(spec, bigquery)
    file.write_text(json.dumps({"at": "2021-05-01T00:00:00Z", "user": "a"}) + "\n")
    said = source(spec, bigquery)
    assert said == "2 columns; the time is at, TIMESTAMP; the key is user"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"topic": TOPIC}, f"{JOBS} is there"),
        ({"ack_deadline_seconds": 600}, f"{JOBS} is there, and `live` mends its ack_deadline_seconds"),
        (
            {"topic": DELETED_TOPIC},
            f"{JOBS} is cut off from its topic, which was deleted: `live` makes it anew; rows may",
        ),
        ({"topic": f"{TOPIC}2"}, f"RequestError: clicks: subscription {JOBS} exists, but it is of the topic {TOPIC}2"),
        (
            {"filter": "attributes.a"},
            f"RequestError: clicks: subscription {JOBS} exists, but its filter 'attributes.a' ",
        ),
    ],
)
def test_a_subscription_is_told_as_live_finds_it(
    changes: dict[str, Any], said: str, spec_of: Callable[..., StreamSpec], bigquery: FakeTables
) -> None:
    assert looked(spec_of(), bigquery, FakeSubscriptions(**changes))["topic"].startswith(said)


def test_a_table_that_will_not_do_is_told(spec_of: Callable[..., StreamSpec], bigquery: FakeTables) -> None:
    bigquery.tables["rejeu-test.web.clicks"] = table("rejeu-test.web.clicks", COLUMNS[0])
    said = looked(spec_of(), bigquery, FakeSubscriptions())["tables"]
    assert said.startswith(
        "SourceError: table rejeu-test.web.clicks exists, but user, ms, price, tags, place, row_id is"
    )
    del bigquery.tables["rejeu-test.web.clicks"]
    bigquery.tables["rejeu-test.web.clicks_live"] = table("rejeu-test.web.clicks_live", *COLUMNS)
    said = looked(spec_of(), bigquery, FakeSubscriptions())["tables"]
    assert said == (
        "SourceError: rejeu-test.web.clicks_live is a table, and must be a view: drop or rename it, or name another "
        "view in the spec"
    )


def test_tables_that_may_not_be_looked_at_are_told_with_the_right_that_is_missing(bigquery: FakeTables) -> None:
    bigquery.refuses = True
    said = looked(read_spec(STREAMS / "site_access.yaml"), bigquery, FakeSubscriptions())["tables"]
    assert said.endswith("check that the account has roles/bigquery.metadataViewer on their datasets")


# As a command


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, bigquery: FakeTables) -> FakeTables:
    monkeypatch.setattr(homes, "target", lambda: TARGET)
    monkeypatch.setattr(clients, "bigquery_client", lambda project: bigquery)
    monkeypatch.setattr(clients, "subscriber_client", FakeSubscriptions)
    return bigquery


def test_the_command_says_each_streams_findings_and_ends_with_0(
    asked: FakeTables, spec_of: Callable[..., StreamSpec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec_of()
    file = tmp_path / "clicks.yaml"
    assert cli.main(["validate", "--source", str(file)]) == 0
    first, found, topic, tables = capsys.readouterr().out.splitlines()
    assert first == f"{file}: ok"
    assert found == "  source: 6 columns; the time is at, TIMESTAMP; the key is user"
    assert topic == f"  topic: `live` makes {JOBS}"
    assert tables.startswith("  tables: `live` makes rejeu-test.web.clicks, ")


def test_the_command_ends_with_3_where_something_will_not_do_and_with_2_where_a_spec_is_wrong(
    asked: FakeTables, spec_of: Callable[..., StreamSpec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec_of({"table": "web.gone"})
    good, wrong = tmp_path / "clicks.yaml", tmp_path / "wrong.yaml"
    wrong.write_text("stream: [")
    assert cli.main(["validate", "--source", str(good)]) == 3
    shown = capsys.readouterr()
    assert "  topic: `live` makes" in shown.out
    assert "  source: clicks: web.gone cannot be read: " in shown.err
    assert cli.main(["validate", "--source", str(good), str(wrong)]) == 2
    assert cli.main(["validate", str(good)]) == 0


def test_without_a_replay_and_with_an_api_nothing_is_asked(tmp_path: Path) -> None:
    said = source(read_spec(STREAMS / "bike_stations.yaml"), None)
    assert said.endswith("which the replay alone asks")


def test_what_needs_no_question_is_refused_first(spec_of: Callable[..., StreamSpec]) -> None:
    nobody: Any = None
    spec = spec_of({"table": None, "files": "gs://{bucket}/a.ndjson"})
    with pytest.raises(RequestError, match="REJEU_BUCKET is empty"):
        checks.look_at_source(spec, Target(project="rejeu-test"), nobody)
