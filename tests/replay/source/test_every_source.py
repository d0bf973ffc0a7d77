"""Every source of Rejeu keeps the rules of `rejeu.testing.sources`, and every simulator those of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from google.cloud import bigquery
from pyarrow import parquet

from rejeu.gcp.clients import bigquery_client
from rejeu.spec.sources import GENERATORS
from rejeu.testing.generators import GeneratorContract
from rejeu.testing.sources import Fields, SourceContract
from rejeu.timeline import format_instant, from_us
from tests.replay.rows import PROJECT, T0

pytestmark = pytest.mark.slow

ROWS: Final = [{"at": format_instant(from_us(T0 + number // 3 * 1_500_000)), "n": number} for number in range(40)]


class TestNdjson(SourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Fields:
        for name, rows in (("a", ROWS[::2]), ("b", ROWS[1::2])):
            (tmp_path / f"{name}.ndjson").write_text("".join(f"{json.dumps(row)}\n" for row in reversed(rows)))
        return {"file": f"{tmp_path}/*.ndjson", "event_time": "at", "key": ("n",)}


class TestParquet(SourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Fields:
        parquet.write_table(pa.Table.from_pylist(ROWS[::-1]), tmp_path / "rows.parquet", row_group_size=7)
        return {"file": f"{tmp_path}/rows.parquet", "event_time": "at"}


class TestApi(SourceContract):
    """Whose answers are kept; nobody asks for more in the past."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Fields:
        (tmp_path / "2026-11-20").mkdir()
        for minute in range(5):
            answer = {
                "records": [{"recordid": f"r{number}", "bikes": minute} for number in range(3)],
                "observed_at": f"2026-11-20T12:0{minute}:00Z",
            }
            (tmp_path / "2026-11-20" / f"120{minute}00.json").write_text(f"{json.dumps(answer)}\n")
        return {
            "api": "http://nobody.invalid",
            "raw": f"{tmp_path}/{{partition}}",
            "event_time": "observed_at",
            "key": ("recordid",),
            "until": "2026-11-20T13:00:00Z",
        }


class OfBigQuery(SourceContract):
    named: str

    @pytest.fixture
    def source(self, emulator: Path) -> Fields:
        client = bigquery_client(PROJECT)
        client.create_dataset("rules", exists_ok=True)
        schema = [bigquery.SchemaField("at", "TIMESTAMP"), bigquery.SchemaField("n", "INT64")]
        if not any(table.table_id == "numbers" for table in client.list_tables("rules")):
            client.create_table(bigquery.Table(f"{PROJECT}.rules.numbers", schema=schema))
            values = ", ".join(f"(TIMESTAMP '{row['at']}', {row['n']})" for row in reversed(ROWS))
            client.query(f"INSERT INTO rules.numbers VALUES {values}").result(timeout=60)
        what = {"table": "rules.numbers", "query": "SELECT * FROM rules.numbers WHERE n > 3"}[self.named]
        return {self.named: what, "event_time": "at", "key": ("n",), "project": PROJECT}


@pytest.mark.emulated
class TestTable(OfBigQuery):
    named = "table"


@pytest.mark.emulated
class TestQuery(OfBigQuery):
    named = "query"


class TestOracleRequests(GeneratorContract):
    generator = "oracle_requests:minutes=5"
    event_time = "block_timestamp_truncated"
    key = ("oracle_request_id",)


class TestIotSensors(GeneratorContract):
    generator = "iot_sensors:sensors=3"
    event_time = "Timestamp"
    key = ("sensor",)
    until = "2026-01-01T00:02:00Z"


class TestSiteAccess(GeneratorContract):
    generator = "site_access:every=5"
    event_time = "eventTime"
    key = ("device",)
    until = "2026-01-01T00:10:00Z"


class TestClickstream(GeneratorContract):
    generator = "clickstream:limit=50"
    event_time = "event_timestamp"
    time_unit = "us"
    key = ("user_pseudo_id",)


def test_every_simulator_is_tried_here() -> None:
    tried = {
        kind.generator.partition(":")[0] for kind in GeneratorContract.__subclasses__() if kind.__module__ == __name__
    }
    assert tried == set(GENERATORS)
