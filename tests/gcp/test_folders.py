"""Folders of files that jobs left, at a path and in a bucket: looked through, and cleared by age."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rejeu.errors import RequestError
from rejeu.gcp.folders import count_files, remove_files, subfolders
from tests.fakes.storage_server import BUCKET, FIRST_GENERATION, PAGE, Object, StorageServer

NOW = datetime.now(UTC)
LIMIT = NOW - timedelta(days=14)

Put = Callable[..., None]


@pytest.fixture(params=["path", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, cloud: StorageServer) -> str:
    return str(tmp_path / "left") if request.param == "path" else f"gs://{BUCKET}/left"


@pytest.fixture
def put(folder: str, cloud: StorageServer) -> Put:
    """A file below the folder, written so many days ago."""

    def write(name: str, days: float = 0.0) -> None:
        written = NOW - timedelta(days=days)
        if folder.startswith("gs://"):
            cloud.objects[BUCKET][f"left/{name}"] = Object(b"x", FIRST_GENERATION, 0.0, written)
            return
        file = Path(folder) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        os.utime(file, (written.timestamp(), written.timestamp()))

    return write


def test_where_there_is_no_folder_there_is_nothing(folder: str) -> None:
    assert (subfolders(folder), count_files(folder), remove_files(folder)) == ([], 0, 0)


def test_what_is_old_goes_and_what_is_young_stays(folder: str, put: Put) -> None:
    put("orders/2026-11-01/a1/rows-0.ndjson", days=15)
    put("orders/2026-11-01/a1/rows-1.ndjson", days=13)
    put("orders/2026-11-02/b2/rows-0.ndjson", days=400)
    assert count_files(folder, before=LIMIT) == 2
    assert remove_files(f"{folder}/orders", before=LIMIT) == 2
    assert (count_files(folder), count_files(folder, before=LIMIT)) == (1, 0)


def test_another_streams_files_are_left_alone(folder: str, put: Put) -> None:
    for stream in ("orders", "orders_2", "order"):
        put(f"{stream}/x", days=30)
    assert remove_files(f"{folder}/orders") == 1
    assert subfolders(folder) == ["order", "orders_2"]


def test_files_of_several_pages_are_all_seen(folder: str, put: Put) -> None:
    for number in range(2 * PAGE + 1):
        put(f"s{number}/x")
    assert count_files(folder) == len(subfolders(folder)) == 2 * PAGE + 1
    assert remove_files(folder) == 2 * PAGE + 1


def test_a_folder_that_is_empty_afterwards_is_gone_too(tmp_path: Path) -> None:
    (tmp_path / "left" / "orders" / "day").mkdir(parents=True)
    (tmp_path / "left" / "orders" / "day" / "x").touch()
    remove_files(str(tmp_path / "left" / "orders"))
    assert list((tmp_path / "left").iterdir()) == []


@pytest.mark.usefixtures("cloud")
def test_a_bucket_that_is_not_there_is_told_with_what_helps() -> None:
    for use in (subfolders, count_files, remove_files):
        with pytest.raises(RequestError, match=r"gs://none-at-all/x cannot be looked through: .*REJEU_BUCKET"):
            use("gs://none-at-all/x")


def test_what_is_forbidden_says_which_role_is_missing(cloud: StorageServer) -> None:
    cloud.faults = iter([403])
    with pytest.raises(RequestError, match=r"grant roles/storage\.objectUser"):
        count_files(f"gs://{BUCKET}/left")
