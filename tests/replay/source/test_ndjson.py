"""Lines of JSON: keys as JSON has them, blocks cut anywhere, and files that change while they are read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import rejeu.replay.source.ndjson
from rejeu.errors import SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.source.ndjson import ndjson_rows, ndjson_runs, ndjson_schema

SCALARS = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)

Requests = Callable[..., ReplayRequest]


def read(path: Path, request: ReplayRequest) -> list[dict[str, Any]]:
    [run] = ndjson_runs({str(path): path.name}, request)
    return [row for table in run.tables() for row in table.to_pylist()]


@given(VALUES, VALUES, st.booleans())
@example(1.0, {"k": -0.0}, True)
@example(2**64, {"k": 1e22}, False)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_is_the_text_of_its_json_value(request_for: Requests, flat: Any, nested: Any, ascii_only: bool) -> None:
    lines = [{"at": 1, "k": flat, "r": nested, "é~": nested}, {"at": 2, "k": 0, "r": {"k": 0}, "é~": 0}]
    inner = nested.get("k") if isinstance(nested, dict) else None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.ndjson"
        texts = [json.dumps(line, ensure_ascii=ascii_only) for line in lines]
        path.write_text("\n".join(texts), encoding="utf-8")
        rows = read(path, request_for(file=str(path), time_unit="us", key=("k", "r.k", "é~")))
    assert rows[0] == {
        "event_us": 1,
        "row": texts[0].encode(),
        **{f"key{at}": None if value is None else str(value) for at, value in enumerate((flat, inner, nested))},
    }


@given(st.lists(st.sampled_from(["", "  ", "\r", "row", "row \r", "long row"]), max_size=12), st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("suffix", ["ndjson", "ndjson.gz"])
def test_lines_are_the_same_wherever_blocks_are_cut(
    request_for: Requests, suffix: str, kinds: list[str], ends: bool
) -> None:
    lines = [
        kind.replace("long row", "row" + " " * 99).replace("row", f'{{"at":{at}}}') for at, kind in enumerate(kinds)
    ]
    data = ("\n".join(lines) + "\n" * ends).encode()
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
        for block_bytes in (1, 10, 60, 1_000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(rejeu.replay.source.ndjson, "BLOCK_BYTES", block_bytes)
                [run] = ndjson_runs({str(path): path.name}, request_for(file=str(path), time_unit="us"))
                for first in range(len(run.blocks) + 1):
                    rows = [row["row"] for table in run.read(first) for row in table.to_pylist()]
                    whole = [line.strip().encode() for line in lines if line.strip()]
                    assert rows == whole[len(whole) - len(rows) :]
                    assert first or rows == whole


def test_lines_that_come_to_a_file_while_it_is_read_are_left_out(tmp_path: Path, request_for: Requests) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"at":1}\n{"at":2}\n')
    [run] = ndjson_runs({str(path): path.name}, request_for(file=str(path), time_unit="us"))
    with path.open("a") as file:
        file.write('{"at":0}\n{"at')
    assert [row["event_us"] for table in run.tables() for row in table.to_pylist()] == [1, 2]


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(tmp_path: Path, request_for: Requests) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"at":1}\n{"at":2}\n')
    [run] = ndjson_runs({str(path): path.name}, request_for(file=str(path), time_unit="us"))
    path.write_text('{"at":1}\n')
    with pytest.raises(SourceError, match=r"a\.ndjson lost lines while it was read: it must not change"):
        list(run.tables())


def test_text_is_an_instant_where_it_has_a_zone_with_fractions_or_without(tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text(
        '{"whole": "2021-05-01T00:00:00Z", "fine": "2021-05-01T00:00:00.5Z", "local": "2021-05-01T00:00:00"}\n'
        '{"whole": null, "fine": "2021-05-01 00:00:01 UTC", "no": "x", "more": [{"at": "soon"}]}\n'
    )
    instant = pa.timestamp("us", "UTC")
    with path.open("rb") as file:
        types = {field.name: field.type for field in ndjson_schema(file, path.name)}
    assert (types["whole"], types["fine"]) == (instant, instant)
    assert (types["local"], types["no"]) == (pa.timestamp("s"), pa.string())


def test_the_first_rows_are_as_they_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_text('{"at": "2021-05-01T00:00:00Z", "id": 1}\n\n{"id": "two", "late": true}\n{"id": 3}\n')
    with path.open("rb") as file:
        rows = ndjson_rows(file, path.name, 2)
    assert rows.to_pylist() == [
        {"at": "2021-05-01T00:00:00Z", "id": "1", "late": None},
        {"at": None, "id": "two", "late": True},
    ]


def test_a_schema_cannot_be_inferred_from_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"at":1}\n')[:-9])
    with path.open("rb") as file, pytest.raises(SourceError, match=r"a\.ndjson\.gz cannot be read"):
        ndjson_schema(file, path.name)
