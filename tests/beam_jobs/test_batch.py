"""Raw files become prepared files: every line a row, nothing, or a dead letter that says where it stood."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.cloud.storage import Client

from beam_jobs.batch import run
from rejeu.errors import RequestError, SourceError
from tests.beam_jobs.builders import BUCKET, make_request


def argv(files: str, output: str, **changes: str) -> list[str]:
    flags = {
        "stream": "crypto_rates",
        "pipeline": "rates",
        "files": files,
        "output": output,
        "event-time": "timestamp",
        "partition": "2021-05-01",
    }
    return [f"--{name}={value}" for name, value in (flags | changes).items()]


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(folder.glob(f"{kind}-*.ndjson")) for line in file.open()]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two files of a day: one of another script in it, one cut in its last line."""
    folder = tmp_path / "raw"
    folder.mkdir()
    good = [json.dumps(make_request(number)) for number in range(1, 4)]
    other = json.dumps(make_request(9, request={"oracle_script_id": "1"}))
    (folder / "a.ndjson").write_text("\n".join([good[0], "", other, good[1]]) + "\n")
    (folder / "b.ndjson").write_text(good[2] + "\n" + good[0][:-40])
    return folder


def test_rows_have_the_pipelines_columns_and_nothing_else(raw: Path, tmp_path: Path) -> None:
    run(argv(f"{raw}/*.ndjson", f"{tmp_path}/out"))
    rows = lines_of(tmp_path / "out", "rows")
    assert sorted((row["request"], row["symbol"]) for row in rows) == [
        (str(number), symbol) for number in (1, 2, 3) for symbol in ("BTC", "ETH")
    ]
    assert {tuple(row) for row in rows} == {("timestamp", "request", "symbol", "rate", "date_str")}


def test_a_line_that_was_cut_is_a_dead_letter_with_its_file_and_line(raw: Path, tmp_path: Path) -> None:
    run(argv(f"{raw}/*.ndjson", f"{tmp_path}/out"))
    (letter,) = lines_of(tmp_path / "out", "dead")
    assert letter["row_id"] == f"{raw}/b.ndjson:2"
    assert json.loads(letter["attributes"]) == {"file": f"{raw}/b.ndjson", "line": "2"}
    assert "truncated" in letter["reason"]
    assert letter["payload"].startswith('{"block_height"')


def test_a_second_run_replaces_what_the_first_wrote(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    stale = out / "rows-00003-of-00007.ndjson"
    stale.write_text("{}\n")
    run(argv(f"{raw}/*.ndjson", f"{out}/"))
    run(argv(f"{raw}/*.ndjson", f"{out}/"))
    assert not stale.exists()
    assert len(lines_of(out, "rows")) == 6


def test_compressed_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(json.dumps(make_request()).encode()))
    run(argv(f"{tmp_path}/*.gz", f"{tmp_path}/out"))
    assert len(lines_of(tmp_path / "out", "rows")) == 2


def test_passthrough_writes_the_rows_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"a": {"b": [1, 2.5]}}\n[]\n')
    run(argv(f"{tmp_path}/a.ndjson", f"{tmp_path}/out", pipeline="passthrough", **{"event-time": "a"}))
    assert lines_of(tmp_path / "out", "rows") == [{"a": {"b": [1, 2.5]}}]
    assert len(lines_of(tmp_path / "out", "dead")) == 1


def test_without_a_file_there_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^no file matches --files .*/none-\*: .*`rejeu seed`"):
        run(argv(f"{tmp_path}/none-*", f"{tmp_path}/out"))
    assert not (tmp_path / "out").exists()


def test_an_event_time_that_the_pipeline_does_not_write_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--event-time is 'time'"):
        run(argv(f"{raw}/*", f"{tmp_path}/out", **{"event-time": "time"}))


@pytest.mark.emulated
def test_files_in_cloud_storage_are_prepared_as_a_program(emulators: dict[str, str], raw: Path) -> None:
    bucket = Client(project="rejeu-test").bucket(BUCKET)
    for file in raw.iterdir():
        bucket.blob(f"dt=2021-05-01/{file.name}").upload_from_filename(file)
    done = run_program(emulators, argv(f"gs://{BUCKET}/dt=2021-05-01/*.ndjson", f"gs://{BUCKET}/prepared"))
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == "rejeu: crypto_rates: 2 files prepared: in 5, out 6, dead 1, duplicate 0, filtered 1, late 0\n"
    )
    prepared = Path(emulators["BQEMU_GCS_LOCAL_ROOT"]) / BUCKET / "prepared"
    assert len(lines_of(prepared, "rows")) == 6
    (letter,) = lines_of(prepared, "dead")
    assert letter["row_id"] == f"gs://{BUCKET}/dt=2021-05-01/b.ndjson:2"


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("gs://no-such-bucket/*.ndjson", "--files is gs://no-such-bucket/*.ndjson"),
        (f"gs://{BUCKET}/no-such-folder/*", f"no file matches --files gs://{BUCKET}/no-such-folder/*"),
    ],
)
def test_a_missing_bucket_or_folder_ends_with_exit_code_3(emulators: dict[str, str], files: str, said: str) -> None:
    done = run_program(emulators, argv(files, f"gs://{BUCKET}/x"))
    assert done.returncode == 3, done.stderr
    assert said in done.stderr


def run_program(environment: dict[str, str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "beam_jobs.batch", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
