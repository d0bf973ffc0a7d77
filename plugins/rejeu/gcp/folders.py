"""Folders of files that jobs left behind, at a path or a gs:// URI: what is in them, and the removal of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.api_core.exceptions import NotFound

from rejeu.errors import RequestError
from rejeu.gcp.clients import storage_client
from rejeu.gcp.errors import asking_google

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

TIMEOUT_SECONDS: Final = 60.0


def subfolders(folder: str) -> list[str]:
    """The names of the folders in this one, sorted. Raises RequestError where it cannot be looked at."""
    with _asking(folder):
        if not _is_remote(folder):
            return sorted(path.name for path in _inside(Path(folder)) if path.is_dir())
        bucket, prefix = _place(folder)
        found = bucket.list_blobs(prefix=prefix, delimiter="/", timeout=TIMEOUT_SECONDS)
        for _ in found:  # the folders are known once all pages are read
            pass
        return sorted(name.removeprefix(prefix).rstrip("/") for name in found.prefixes)


def count_files(folder: str, before: datetime | None = None) -> int:
    """How many files lie in the folder and below it, of those that were written before this instant.

    Raises RequestError where it cannot be looked at.
    """
    with _asking(folder):
        return sum(1 for _ in _files(folder, before))


def remove_files(folder: str, before: datetime | None = None) -> int:
    """Remove the files in the folder and below it that were written before this instant; how many that were.

    Raises RequestError where that cannot be done.
    """
    removed = 0
    with _asking(folder):
        for file in list(_files(folder, before)):
            with suppress(NotFound, FileNotFoundError):  # somebody else removes it, too
                _remove(file)
                removed += 1
        if not _is_remote(folder):
            _remove_empty(Path(folder))
    return removed


def _files(folder: str, before: datetime | None) -> Iterator[Any]:
    """Blobs, or paths."""
    if _is_remote(folder):
        bucket, prefix = _place(folder)
        for blob in bucket.list_blobs(prefix=prefix, timeout=TIMEOUT_SECONDS):
            if before is None or blob.updated < before:
                yield blob
        return
    for path in Path(folder).rglob("*"):
        with suppress(FileNotFoundError):
            written = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
            if not path.is_dir() and (before is None or written < before):
                yield path


def _remove(file: Any) -> None:
    if isinstance(file, Path):
        file.unlink()
    else:
        file.delete(timeout=TIMEOUT_SECONDS)


def _remove_empty(folder: Path) -> None:
    """Remove the folders in which nothing is left; a bucket has none of its own."""
    for path in sorted([folder, *folder.rglob("*")], reverse=True):
        with suppress(OSError):  # it is a file, or has something in it
            path.rmdir()


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_remote(folder: str) -> bool:
    return folder.startswith("gs://")


def _place(folder: str) -> tuple[Bucket, str]:
    """The bucket, and what the names of the folder's files begin with."""
    bucket, _, name = folder.removeprefix("gs://").partition("/")
    return storage_client(None).bucket(bucket), f"{name.rstrip('/')}/"


def _asking(folder: str) -> AbstractContextManager[None]:
    return asking_google(
        RequestError,
        f"{folder} cannot be looked through",
        "grant roles/storage.objectUser on the bucket to the account that asks",
        missing="create the bucket, or name another one with REJEU_BUCKET",
    )
