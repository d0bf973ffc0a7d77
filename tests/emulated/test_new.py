"""`rejeu new` on real tables and files: what it writes is valid at once, and the replay can read the source by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from google.cloud import bigquery
from pyarrow import parquet

from rejeu import cli
from rejeu.gcp.clients import bigquery_client
from rejeu.jobs.request import ReplayRequest
from rejeu.new import table as table_look
from rejeu.replay.source.choose import read_rows
from rejeu.spec.files import read_spec
from rejeu.spec.model import StreamSpec
from tests.servers import BigQuery

pytestmark = pytest.mark.emulated

PROJECT = "rejeu-test"
BEGIN = datetime(2021, 5, 1, tzinfo=UTC)
ROWS = 200


@pytest.fixture(scope="module")
def client(bigquery_here: BigQuery) -> Iterator[bigquery.Client]:
    """BigQuery with a table of orders, a view of them, and a table of no rows, in the dataset `shop`."""
    with pytest.MonkeyPatch.context() as environment, closing(bigquery_client(PROJECT)) as made:
        environment.setenv("REJEU_PROJECT", PROJECT)
        yield _with_orders(made)


def _with_orders(client: bigquery.Client) -> bigquery.Client:
    client.create_dataset("shop")
    columns = {"order_id": "INT64", "placed": "TIMESTAMP", "updated_at": "TIMESTAMP", "country": "STRING"}
    schema = [bigquery.SchemaField(name, kind) for name, kind in columns.items()]
    for name in ("orders", "nothing"):
        table = bigquery.Table(f"{PROJECT}.shop.{name}", schema=schema)
        table.time_partitioning = bigquery.TimePartitioning(field="placed")
        client.create_table(table)
    client.insert_rows_json(f"{PROJECT}.shop.orders", orders())
    view = bigquery.Table(f"{PROJECT}.shop.recent")
    view.view_query = f"SELECT * FROM `{PROJECT}.shop.orders`"
    client.create_table(view)
    return client


def orders() -> list[dict[str, object]]:
    instants = [(BEGIN + timedelta(minutes=number)).isoformat() for number in range(ROWS)]
    return [
        {"order_id": number, "placed": at, "updated_at": at, "country": ["fr", "be"][number % 2]}
        for number, at in enumerate(instants)
    ]


def begin(tmp_path: Path, *argv: str) -> StreamSpec:
    """The spec that the command writes."""
    assert cli.main(["new", "web_orders", *argv, "--dags", str(tmp_path)]) == 0
    return read_spec(tmp_path / "streams" / "web_orders.yaml")


def replayed(spec: StreamSpec) -> int:
    """How many rows the replay reads by this spec."""
    assert spec.replay is not None
    source = spec.replay.source
    request = ReplayRequest(
        topic="t",
        project=PROJECT,
        table=source.table,
        file=source.files,
        event_time=spec.source_time,
        time_unit=source.time_unit,
        key=spec.source_key,
    )
    return sum(table.num_rows for table in read_rows(request, None))


@pytest.mark.parametrize("table", ["shop.orders", f"{PROJECT}.shop.orders", "shop.recent"])
def test_a_table_or_a_view_becomes_a_spec_that_replays_all_its_rows(
    table: str, client: bigquery.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = begin(tmp_path, "--table", table)
    told = capsys.readouterr()
    assert spec.key == ("order_id",)
    assert f"{ROWS} " in told.err
    assert f"{tmp_path}/streams/web_orders.yaml: written" in told.out
    assert replayed(spec) == ROWS


def test_the_partitioning_column_is_the_event_time(
    client: bigquery.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert begin(tmp_path, "--table", "shop.orders").event_time == "placed"
    told = capsys.readouterr().err
    assert "event time: placed: TIMESTAMP; no row is without it; the table is partitioned by it" in told
    assert "not updated_at: placed is likelier" in told


@pytest.mark.parametrize(
    ("table", "complaint"),
    [("shop.none", "table rejeu-test.shop.none cannot be read"), ("shop.nothing", "has no rows")],
)
def test_a_table_that_is_missing_or_empty_becomes_none(
    table: str, complaint: str, client: bigquery.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["new", "web_orders", "--table", table, "--dags", str(tmp_path)]) == 3
    assert complaint in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_a_view_that_is_dear_to_look_at_becomes_none(
    client: bigquery.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table_look, "VIEW_BYTES", -1)
    assert cli.main(["new", "web_orders", "--table", "shop.recent", "--dags", str(tmp_path)]) == 3
    assert "view rejeu-test.shop.recent reads" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_a_file_becomes_a_spec_that_replays_all_its_rows(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"orders {{1}}: #1.{suffix}"
    rows = [row | {"at": int((BEGIN + timedelta(minutes=n)).timestamp())} for n, row in enumerate(orders())]
    if suffix == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    spec = begin(tmp_path, "--file", str(file))
    assert spec.replay is not None
    assert (spec.event_time, spec.replay.source.time_unit, spec.key) == ("at", "s", ("order_id",))
    assert (spec.replay.source.files or "").format() == str(file)


def test_a_dry_run_prints_the_spec_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "orders.ndjson"
    file.write_text('{"id": 1, "ts": "2021-05-01T00:00:00Z"}\n', encoding="utf-8")
    assert cli.main(["new", "web_orders", "--file", str(file), "--dags", str(tmp_path), "--dry-run"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert read_spec(tmp_path / "printed.yaml").event_time == "ts"
    assert not (tmp_path / "streams").exists()


def test_a_file_that_is_missing_becomes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "web_orders", "--file", str(tmp_path / "no.parquet"), "--dags", str(tmp_path)]) == 3
    assert "no file is named" in capsys.readouterr().err
