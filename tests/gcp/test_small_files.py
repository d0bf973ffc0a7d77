"""Small texts at a path and in a bucket: written whole, and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from rejeu.errors import RequestError
from rejeu.gcp.small_files import read_text, write_text
from tests.fakes.storage_server import StorageServer


@pytest.fixture(params=["path", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, cloud: StorageServer) -> str:
    return str(tmp_path / "new" / "text") if request.param == "path" else "gs://rejeu-test/new/text"


def test_what_was_written_last_is_read(place: str) -> None:
    assert read_text(place) is None
    write_text(place, "one")
    write_text(place, "zwölf")
    assert read_text(place) == "zwölf"


def test_a_folder_is_no_place_for_a_text(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="name a path that may be read and written"):
        write_text(str(tmp_path), "one")
    with pytest.raises(RequestError, match="name a path that may be read and written"):
        read_text(str(tmp_path))


@pytest.mark.usefixtures("cloud")
def test_a_bucket_that_is_not_there_takes_no_text() -> None:
    with pytest.raises(RequestError, match="gs://none-at-all/text cannot be used"):
        write_text("gs://none-at-all/text", "one")
