"""The demo's comparison sees whatever could be wrong with a live view, and the truth that it compares with is right."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import msgspec
import pytest
import yaml

from rejeu.local.demos.demo_data import DemoData
from rejeu.spec.columns import Column
from rejeu.spec.files import read_spec
from rejeu.target import Target
from rejeu.timeline import Position
from tests.servers import BigQuery, Storage

pytestmark = pytest.mark.emulated

DAY = date(2021, 4, 30)
COLUMNS = (Column("at", "TIMESTAMP"), Column("who", "STRING"), Column("mean", "FLOAT64"), Column("n", "INT64"))
DUE = [
    {"at": "2021-04-30T10:00:00Z", "who": "a", "mean": 0.1, "n": 1},
    {"at": "2021-04-30T10:00:00Z", "who": "b", "mean": None, "n": 2},
    {"at": "2021-04-30T10:01:00Z", "who": "a", "mean": 3e9, "n": 3},
]


class Means(DemoData):
    """Rows that a source gives as they must come out."""

    truth = """
        SELECT json ->> '$.at' AS "at", json ->> '$.who' AS who,
          CAST(json ->> '$.mean' AS DOUBLE) AS mean, CAST(json ->> '$.n' AS BIGINT) AS n
        FROM lines
    """
    key, values = COLUMNS[:2], COLUMNS[2:]

    def history(self) -> Iterable[bytes]:
        return [msgspec.json.encode(DUE[0])]

    def streamed(self, end: Position | None) -> Iterable[bytes]:
        return [msgspec.json.encode(row) for row in DUE[1:]]


@pytest.fixture
def data(storage_server: Storage, bigquery_here: BigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Means:
    """The data of a stream whose tables no other test uses."""
    for name, value in storage_server.variables.items():
        monkeypatch.setenv(name, value)
    dataset = f"d{uuid.uuid4().hex}"
    document = {
        "stream": "means",
        "event_time": "at",
        "batch": {"files": "gs://{bucket}/{partition}", "table": f"{dataset}.batch"},
        "live": {"topic": "means", "table": f"{dataset}.streaming"},
        "replay": {"source": {"table": "web.history"}},
    }
    (tmp_path / "means.yaml").write_text(yaml.safe_dump(document))
    target = Target(project="rejeu-test", bucket=dataset, dataset=dataset)
    data = Means(read_spec(tmp_path / "means.yaml"), target, DAY)
    data.bucket.create()
    for table in ("batch", "streaming", "streaming_dead_letters", "incidents"):
        data.load(target.table(f"{dataset}.{table}"), [], COLUMNS)
    assert data.expect(None) == 2
    return data


def found(data: Means, *rows: dict[str, object]) -> dict[str, int]:
    """What the comparison says of a live view with these rows."""
    data.load(data.target.table(data.spec.view), [msgspec.json.encode(row) for row in rows], COLUMNS)
    counts = data.compare()
    return {name: counts[name] for name in ("missing", "unexpected", "duplicates_in_live_view")}


def faults(missing: int = 0, unexpected: int = 0, duplicates: int = 0) -> dict[str, int]:
    return {"missing": missing, "unexpected": unexpected, "duplicates_in_live_view": duplicates}


def test_a_view_that_holds_what_it_must_has_no_fault(data: Means) -> None:
    assert found(data, *reversed(DUE)) == faults()
    assert data.compare()["expected_rows"] == 3


def test_a_float_may_differ_in_its_last_digits_only(data: Means) -> None:
    assert found(data, DUE[0], DUE[1], DUE[2] | {"mean": 3e9 + 1e-6}) == faults()
    assert found(data, DUE[0], DUE[1], DUE[2] | {"mean": 3e9 + 10}) == faults(missing=1)


@pytest.mark.parametrize("change", [{"n": 4}, {"mean": None}, {"mean": 0.2}])
def test_a_row_with_another_value_is_missing(data: Means, change: dict[str, object]) -> None:
    assert found(data, DUE[0] | change, DUE[1], DUE[2]) == faults(missing=1)


def test_a_value_in_the_place_of_none_is_wrong(data: Means) -> None:
    assert found(data, DUE[0], DUE[1] | {"mean": 0.0}, DUE[2]) == faults(missing=1)


def test_a_row_that_is_not_there_is_missing(data: Means) -> None:
    assert found(data, DUE[0]) == faults(missing=2)
    assert not data.is_complete()


def test_a_row_that_is_there_twice_is_double(data: Means) -> None:
    assert found(data, *DUE, DUE[1], DUE[1]) == faults(duplicates=2)


def test_a_row_that_nobody_sent_is_unexpected(data: Means) -> None:
    assert found(data, *DUE, DUE[1] | {"who": "c"}) == faults(unexpected=1)
