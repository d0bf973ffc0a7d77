"""Small texts that a job leaves for the task that waits for it: at a path, or at a gs:// URI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from google.api_core.exceptions import GoogleAPIError, NotFound
from google.cloud.storage import Blob

from rejeu.errors import RequestError
from rejeu.gcp.clients import storage_client

TIMEOUT_SECONDS: Final = 60.0


def write_text(place: str, text: str) -> None:
    """Write it, whole or not at all, in the place of what was there. Raises RequestError where that cannot be."""
    with _told(place):
        if (blob := _blob(place)) is not None:
            blob.upload_from_string(text, timeout=TIMEOUT_SECONDS)
            return
        path = Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def read_text(place: str) -> str | None:
    """What is there; None where nothing is. Raises RequestError where it cannot be read."""
    with _told(place), suppress(NotFound, FileNotFoundError):
        if (blob := _blob(place)) is not None:
            return str(blob.download_as_text(timeout=TIMEOUT_SECONDS))
        return Path(place).read_text(encoding="utf-8")
    return None


def _blob(place: str) -> Blob | None:
    """The object; None where the place is a path."""
    if not place.startswith("gs://"):
        return None
    bucket, _, name = place.removeprefix("gs://").partition("/")
    return storage_client(None).bucket(bucket).blob(name)


@contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except (GoogleAPIError, OSError) as error:
        raise RequestError(f"{place} cannot be used: {error}; name a place that may be read and written") from error
