"""Files as a source: sorted, verbatim where they are JSON, and refused with file and line where they are broken."""

from __future__ import annotations

import gzip
import io
import json
import random
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rejeu.replay.source.files
import rejeu.replay.source.ndjson
import rejeu.replay.source.parquet
from rejeu.errors import RowError, SourceError
from rejeu.gcp.clients import storage_client
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.files import file_schema, first_rows, read_files
from rejeu.replay.source.merge import Run
from rejeu.replay.source.spill import spill
from rejeu.timeline import Position
from tests.fakes.storage_server import BUCKET, FIRST_GENERATION, Object, StorageServer
from tests.replay.rows import PROJECT

Read = Callable[..., list[tuple[int, str, bytes]]]

SECOND_US = 1_000_000


def write_lines(path: Path, *lines: str) -> str:
    data = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def at(second: int) -> str:
    return f"1970-01-01T00:00:{second:02d}Z"


def line(second: int, **more: Any) -> str:
    return json.dumps({"at": at(second), **more})


def test_lines_are_published_as_they_stand(tmp_path: Path, read: Read) -> None:
    odd = '{"at": "1970-01-01T00:00:01.000000999Z",  "n": 1.50, "big": 123456789012345678901234567890, "é": "\\u00e9"}'
    rows = read(file=write_lines(tmp_path / "a.ndjson", line(2), "", f"  {odd}\r"), key=("n",))
    assert rows[0] == (1_000_000, "feed/1000000/1.5/0", odd.encode())


def test_files_of_a_pattern_are_one_source_by_event_time(tmp_path: Path, read: Read) -> None:
    seconds = list(range(60))
    random.Random(1).shuffle(seconds)
    write_lines(tmp_path / "a.ndjson", *(line(second) for second in seconds[:30]))
    write_lines(tmp_path / "b.ndjson.gz", *(line(second) for second in seconds[30:]))
    rows = read(file=f"{tmp_path}/*")
    assert [event_us for event_us, _, _ in rows] == [second * SECOND_US for second in range(60)]


def test_parquet_and_json_of_the_same_rows_have_the_same_ids(tmp_path: Path, read: Read) -> None:
    rows = [{"at": second % 7, "record": {"k": f"k{second % 3}"}, "tags": ["a"]} for second in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    write_lines(tmp_path / "a.jsonl", *(json.dumps(row) for row in rows))
    options = {"key": ("record.k",), "time_unit": "s"}
    parquet = read(file=str(tmp_path / "a.parquet"), **options)
    text = read(file=str(tmp_path / "a.jsonl"), **options)
    assert [identity for _, identity, _ in parquet] == [identity for _, identity, _ in text]
    assert [json.loads(body) for _, _, body in parquet] == [json.loads(body) for _, _, body in text]


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_a_window_of_a_file_is_read_from_a_position_to_until(tmp_path: Path, read: Read, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    rows = [{"at": at(second // 2), "n": second} for second in range(20)]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write_lines(path, *map(json.dumps, rows))
    whole = read(file=str(path))
    rest = read(Position(3 * SECOND_US, 1), file=str(path), until="1970-01-01T00:00:08Z")
    assert rest == whole[7:16]


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(pa.array([SECOND_US], pa.timestamp("us", "UTC")), id="TIMESTAMP"),
        pytest.param(pa.array([SECOND_US * 1_000], pa.timestamp("ns")), id="nanoseconds"),
        pytest.param(pa.array(["1970-01-01 00:00:01 UTC"]), id="text"),
        pytest.param(pa.array(["1970-01-01T02:00:01.000000999+02:00"]), id="text with offset"),
    ],
)
def test_parquet_times_of_every_type_are_understood(tmp_path: Path, read: Read, times: pa.Array) -> None:
    pq.write_table(pa.table({"at": times}), tmp_path / "a.parquet")
    assert [event_us for event_us, _, _ in read(file=str(tmp_path / "a.parquet"))] == [SECOND_US]


def test_integers_that_are_text_are_times_too(tmp_path: Path, read: Read) -> None:
    assert read(file=write_lines(tmp_path / "a.json", '{"at": "1"}'), time_unit="s")[0][0] == SECOND_US


BROKEN = {
    "a broken line": ('{"at": "1970', r"a\.ndjson, line 3 is broken: .*one whole JSON object"),
    "a line that is no object": ("[1]", r"a\.ndjson, line 3 is broken: .*`array`.*one whole JSON object"),
    "two objects in a line": (f"{line(1)} {line(1)}", r"a\.ndjson, line 3 is broken"),
    "text that is no UTF-8": ('{"x": "\udcff", "at": "1970-01-01T00:00:01Z"}', r"a\.ndjson, line 3 is broken: .*utf-8"),
    "no event time": ('{"n": 1}', r"a\.ndjson, line 3: at is None: an event time is .*mend or remove it"),
    "an event time that is null": ('{"at": null}', r"line 3: at is None"),
    "an event time that cannot be read": ('{"at": "noon"}', r"line 3: at: 'noon' is not a time"),
    "an event time without a zone": (
        '{"at": "1970-01-01T00:00:01"}',
        r"line 3: at: '1970-01-01T00:00:01' has no time zone",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_bad_line_is_named_before_any_row_is_given_out(tmp_path: Path, read: Read, case: str) -> None:
    text, message = BROKEN[case]
    file = write_lines(tmp_path / "a.ndjson", line(1), "", text, line(2))
    with pytest.raises(RowError, match=message):
        read(file=file)


def test_a_truncated_file_is_refused(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.ndjson.gz"
    write_lines(path, *(line(second % 60, n=random.Random(second).random()) for second in range(2_000)))
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(SourceError, match=r"a\.ndjson\.gz.* is truncated or damaged after line"):
        read(file=str(path))
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.table({"at": [at(1)]}), parquet)
    parquet.write_bytes(parquet.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"a\.parquet cannot be read"):
        read(file=str(parquet))


def test_a_parquet_row_without_a_time_is_named(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"at": pa.array([1, None], pa.timestamp("us"))}), tmp_path / "a.parquet")
    with pytest.raises(RowError, match=r"a\.parquet, rows 1 to 2: at is null in 1 of 2 rows"):
        read(file=str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_the_last_row_of_the_last_file_is_checked_before_the_first_is_given_out(
    tmp_path: Path, request_for: Callable[..., ReplayRequest], suffix: str
) -> None:
    for name, last in (("a", at(3)), ("b", "noon")):
        rows = [{"at": at(1)}, {"at": at(2)}, {"at": last}]
        if suffix == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet", row_group_size=1)
        else:
            write_lines(tmp_path / f"{name}.ndjson", *map(json.dumps, rows))
    place = r"b\.parquet, rows 3 to 3" if suffix == "parquet" else r"b\.ndjson, line 3"
    with pytest.raises(RowError, match=f"{place}: at: 'noon' is not a time"):
        next(read_files(request_for(file=f"{tmp_path}/*"), None, None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"event_time": "when"}, "--event-time when: the source has no 'when'; name one of at, n"),
        ({"key": ("id",)}, "--key id: the source has no 'id'; name one of at, n"),
        ({"key": ("n.id",)}, "--key n.id: n has no 'id'; n is no single record but int64"),
        ({"event_time": "n"}, "give --time-unit s, ms or us"),
    ],
)
def test_a_missing_column_is_told_with_those_there_are(
    tmp_path: Path, read: Read, options: dict[str, Any], message: str
) -> None:
    pq.write_table(pa.table({"at": [at(1)], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=message):
        read(file=str(tmp_path / "a.parquet"), **options)


def test_a_key_that_no_line_has_is_refused(tmp_path: Path, read: Read) -> None:
    with pytest.raises(SourceError, match="--key id is in none of the first 1 rows; they have at, n"):
        read(file=write_lines(tmp_path / "a.ndjson", line(1, n=1)), key=("id",))


@pytest.mark.slow
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=12), min_size=1, max_size=4),
    st.sampled_from(["parquet", "ndjson", "ndjson.gz"]),
    st.tuples(st.integers(1, 4), st.integers(1, 400), st.sampled_from([0, 200, 10**9])),
    st.tuples(st.none() | st.integers(0, 40), st.none() | st.integers(0, 40)),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_of_a_window_comes_once_and_by_time_however_files_and_memory_are_cut(
    request_for: Callable[..., ReplayRequest],
    files: list[list[tuple[int, int]]],
    suffix: str,
    cuts: tuple[int, int, int],
    window: tuple[int | None, int | None],
) -> None:
    group_rows, block_bytes, held_bytes = cuts
    from_us, until_us = window
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejeu.replay.source.parquet, "BLOCK_BYTES", block_bytes)
        patch.setattr(rejeu.replay.source.ndjson, "BLOCK_BYTES", block_bytes)
        patch.setattr(rejeu.replay.source.files, "HELD_BYTES", held_bytes)
        for number, rows in enumerate(files):
            path = Path(folder) / f"{number}.{suffix}"
            if suffix == "parquet":
                columns = {name: pa.array([row[at] for row in rows], pa.int64()) for at, name in enumerate(("at", "n"))}
                pq.write_table(pa.table(columns), path, row_group_size=group_rows)
            else:
                write_lines(path, *(f'{{"at":{us},"n":{n}}}\n' for us, n in rows))
        request = request_for(file=f"{folder}/*", time_unit="us", key=("n",) if any(files) else ())
        tables = [
            [(row["event_us"], int(row["key0"])) for row in table.to_pylist()]
            for table in read_files(request, from_us, until_us)
        ]
    expected = sorted(
        row
        for rows in files
        for row in rows
        if (from_us is None or row[0] >= from_us) and (until_us is None or row[0] < until_us)
    )
    assert sorted(row for table in tables for row in table) == expected
    assert [row[0] for table in tables for row in sorted(table)] == [row[0] for row in expected]


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_rows_in_order_or_almost_so_need_no_disk_and_all_others_leave_nothing_on_it(
    tmp_path: Path, request_for: Callable[..., ReplayRequest], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    sorts: list[int] = []

    def counted(tables: Iterable[pa.Table], closing: ExitStack) -> list[Run]:
        sorts.append(1)
        return spill(tables, closing)

    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(rejeu.replay.source.files, "spill", counted)
    monkeypatch.setattr(rejeu.replay.source.files, "HELD_BYTES", 400_000)
    for module in (rejeu.replay.source.parquet, rejeu.replay.source.ndjson):
        monkeypatch.setattr(module, "BLOCK_BYTES", 5_000)
    chance = random.Random(1)
    in_order = list(range(6_000))
    late = sorted(in_order, key=lambda us: us + chance.random() * 100)
    shuffled = chance.sample(in_order, len(in_order))
    for times, on_disk in ((in_order, False), (late, False), (shuffled, True)):
        for name, part in (("a", times[3_000:]), ("b", times[:3_000])):
            if suffix == "parquet":
                table = pa.table({"at": pa.array(part, pa.int64()), "text": [f"{us:0100d}" for us in part]})
                pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=1_000)
            else:
                write_lines(tmp_path / f"{name}.ndjson", *(f'{{"at":{us},"text":"{us:0100d}"}}' for us in part))
        tables = read_files(request_for(file=f"{tmp_path}/*.{suffix}", time_unit="us"), None, None)
        first = next(tables)
        assert (bool(sorts), list(disk.iterdir())) == (on_disk, [])
        assert first.num_rows + sum(table.num_rows for table in tables) == 6_000


def test_decimals_keep_all_their_digits(tmp_path: Path, read: Read) -> None:
    exact = Decimal("12345678901234567890.12345678901234567890123456789012345678")
    pq.write_table(pa.table({"at": [at(1)], "d": pa.array([exact], pa.decimal256(76, 38))}), tmp_path / "a.parquet")
    assert json.loads(read(file=str(tmp_path / "a.parquet"))[0][2])["d"] == str(exact)


def test_files_of_different_columns_are_refused(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"at": [at(1)], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"at": [at(1)], "n": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet has other columns than .*a\.parquet: give files of one schema"):
        read(file=f"{tmp_path}/*")


def test_files_that_are_not_there_or_of_two_kinds_are_refused(tmp_path: Path, read: Read) -> None:
    with pytest.raises(SourceError, match="no file is named"):
        read(file=f"{tmp_path}/*.parquet")
    write_lines(tmp_path / "a.ndjson", line(1))
    pq.write_table(pa.table({"at": [at(1)]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="some files are Parquet and some are JSON: give one kind"):
        read(file=f"{tmp_path}/*")
    write_lines(tmp_path / "a.csv", "at")
    with pytest.raises(SourceError, match=r"a\.csv has an unknown suffix"):
        read(file=f"{tmp_path}/*.csv")


@pytest.mark.emulated
@pytest.mark.usefixtures("storage")
def test_files_in_cloud_storage_are_read_and_named_by_their_uris(tmp_path: Path, read: Read) -> None:
    bucket = storage_client(PROJECT).create_bucket("replayed")
    for name, lines in {
        "in/a.ndjson": [line(3), line(1)],
        "in/b.ndjson": [line(2)],
        "in/deeper/c.ndjson": [line(4)],
        "other/bad.ndjson": [line(1), "{"],
    }.items():
        bucket.blob(name).upload_from_filename(write_lines(tmp_path / "lines", *lines))
    seconds = {
        pattern: [row[0] // SECOND_US for row in read(file=f"gs://replayed/{pattern}")]
        for pattern in ("in/*.ndjson", "in/**.ndjson", "in/?.ndjson", "in/b.ndjson")
    }
    assert seconds == {
        "in/*.ndjson": [1, 2, 3],
        "in/**.ndjson": [1, 2, 3, 4],
        "in/?.ndjson": [1, 2, 3],
        "in/b.ndjson": [2],
    }
    with pytest.raises(RowError, match=r"^gs://replayed/other/bad\.ndjson, line 2 is broken"):
        read(file="gs://replayed/other/*")
    with pytest.raises(SourceError, match=r"gs://nowhere/a\.ndjson cannot be read|no file is named gs://nowhere"):
        read(file="gs://nowhere/a.ndjson")


def parquet(rows: int) -> bytes:
    sink = io.BytesIO()
    noise = random.Random(7)
    bodies = [noise.randbytes(200).hex() for _ in range(rows)]
    table = pa.table({"at": pa.array(range(rows), pa.timestamp("s", "UTC")), "body": bodies})
    pq.write_table(table, sink, compression="NONE", use_dictionary=False, row_group_size=2_000)
    return sink.getvalue()


def lines(rows: int) -> bytes:
    noise = random.Random(7)
    return b"".join(b"%s\n" % line(row % 60, body=noise.randbytes(200).hex()).encode() for row in range(rows))


@pytest.mark.parametrize(
    ("name", "body", "most"),
    [
        ("a.parquet", parquet(20_000), 600_000),
        ("a.ndjson", lines(20_000), 5_000_000),
        ("a.ndjson.gz", gzip.compress(lines(20_000), 1), 3_000_000),
    ],
    ids=["parquet", "ndjson", "compressed"],
)
def test_of_a_file_in_cloud_storage_the_check_fetches_only_what_it_reads(
    cloud: StorageServer, name: str, body: bytes, most: int
) -> None:
    assert len(body) > 1.4 * most
    cloud.objects[BUCKET] = {
        f"in/{name}": Object(body, FIRST_GENERATION, 0.0),
        "in/b": Object(b"", FIRST_GENERATION, 0.0),
    }
    assert file_schema(f"gs://{BUCKET}/in/*", PROJECT).names == ["at", "body"]
    assert cloud.downloaded_bytes < most
    before = cloud.downloaded_bytes
    assert first_rows(f"gs://{BUCKET}/in/*", PROJECT, 5).num_rows == 5
    assert cloud.downloaded_bytes - before < 3_000_000


def test_a_small_or_broken_file_in_cloud_storage_is_told_as_one_of_this_machine(cloud: StorageServer) -> None:
    cloud.objects[BUCKET] = {
        "a.ndjson": Object(line(1).encode(), FIRST_GENERATION, 0.0),
        "broken.parquet": Object(b"PAR1 and no more", FIRST_GENERATION, 0.0),
        "empty.ndjson": Object(b"", FIRST_GENERATION, 0.0),
    }
    assert file_schema(f"gs://{BUCKET}/a.ndjson", PROJECT).names == ["at"]
    for name in ("broken.parquet", "empty.ndjson"):
        with pytest.raises(SourceError, match=rf"gs://{BUCKET}/{name} cannot be read: .*; replace the file"):
            file_schema(f"gs://{BUCKET}/{name}", PROJECT)
    with pytest.raises(SourceError, match="no file is named gs://"):
        file_schema(f"gs://{BUCKET}/none/*", PROJECT)
    with pytest.raises(SourceError, match=r"gs://none-such/a\.ndjson cannot be read: 404"):
        file_schema("gs://none-such/a.ndjson", PROJECT)
