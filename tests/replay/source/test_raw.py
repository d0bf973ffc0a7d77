"""Raw files: each written once, whoever comes first, and found again by the time they are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud.storage import Client

from rejeu.errors import SourceError
from rejeu.replay.source.raw import RawFiles
from rejeu.timeline import parse_instant, to_us
from tests.fakes.storage_server import BUCKET, StorageServer

EVENING = to_us(parse_instant("2026-11-20T23:59:00Z"))
MINUTE = 60_000_000

Open = Callable[..., RawFiles]


@pytest.fixture(params=["folder", "bucket"])
def open_raw(request: pytest.FixtureRequest, tmp_path: Path, cloud: StorageServer) -> Open:
    """Opens raw files on disk, and in a Cloud Storage that enforces preconditions."""
    place = str(tmp_path) if request.param == "folder" else f"gs://{BUCKET}"
    return lambda path="bikes/dt={partition}/": RawFiles(f"{place}/{path}", "rejeu-test")


def test_of_two_that_keep_one_instant_the_first_is_kept_and_both_read_it(open_raw: Open) -> None:
    assert open_raw().keep(EVENING, b"first") == b"first"
    assert open_raw().keep(EVENING, b"second") == b"first"
    assert open_raw().read(EVENING) == b"first"


def test_an_instant_that_nobody_kept_has_none(open_raw: Open) -> None:
    assert open_raw().read(EVENING) is None
    assert open_raw().instants(None, EVENING) == []


def test_instants_are_found_by_their_time_over_days(open_raw: Open) -> None:
    raw = open_raw()
    kept = [EVENING + minute * MINUTE for minute in range(4)]
    for each in reversed(kept):
        raw.keep(each, b"{}")
    assert raw.instants(None, EVENING + 10 * MINUTE) == kept
    assert raw.instants(kept[1], kept[3]) == kept[1:3]
    assert raw.instants(kept[1] + 1, kept[3]) == kept[2:3]


def test_what_else_lies_there_is_left_alone(open_raw: Open) -> None:
    open_raw().keep(EVENING, b"{}")
    open_raw("bikes/dt={partition}/late").keep(EVENING + MINUTE, b"{}")
    open_raw("bikes/dt=old-{partition}").keep(EVENING + MINUTE, b"{}")
    assert open_raw().instants(None, EVENING + 10 * MINUTE) == [EVENING]


def test_a_file_lies_by_its_day_and_second(tmp_path: Path) -> None:
    RawFiles(f"{tmp_path}/dt={{partition}}", None).keep(EVENING, b"{}")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["dt=2026-11-20/235900.json"]


def test_a_place_that_cannot_be_used_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    raw = RawFiles(f"{tmp_path}/file/{{partition}}", None)
    with pytest.raises(SourceError, match=r"--raw .*/file/\{partition\} cannot be used: .* may read, list and create"):
        raw.keep(EVENING, b"{}")


def test_a_missing_bucket_is_told(cloud: StorageServer) -> None:
    with pytest.raises(SourceError, match=r"--raw gs://none-such/\{partition\} cannot be used: 404"):
        RawFiles("gs://none-such/{partition}", "rejeu-test").instants(None, EVENING)


@pytest.mark.emulated
@pytest.mark.usefixtures("storage")
def test_the_local_stacks_cloud_storage_keeps_them_too() -> None:
    Client(project="rejeu-test").create_bucket("bikes")
    raw = RawFiles("gs://bikes/dt={partition}", "rejeu-test")
    assert raw.instants(None, EVENING) == []
    assert raw.read(EVENING) is None
    for minute in range(3):
        raw.keep(EVENING + minute * MINUTE, b"{}")
    assert raw.read(EVENING) == b"{}"
    assert raw.instants(EVENING + 1, EVENING + 2 * MINUTE) == [EVENING + MINUTE]
