"""Small texts that a job leaves for the task that waits for it: at a path, or at a gs:// URI."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from google.api_core.exceptions import NotFound
from google.cloud.storage import Blob

from rejeu.errors import RequestError
from rejeu.gcp.clients import storage_client
from rejeu.gcp.errors import asking_google

TIMEOUT_SECONDS: Final = 60.0


def write_text(path: str, text: str) -> None:
    """Write it, whole or not at all, over what was there. Raises RequestError where it cannot be written."""
    with _asking(path):
        if (blob := _blob(path)) is not None:
            blob.upload_from_string(text, timeout=TIMEOUT_SECONDS)
            return
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)


def read_text(path: str) -> str | None:
    """The text; None where there is no such file. Raises RequestError where it cannot be read."""
    with _asking(path), suppress(NotFound, FileNotFoundError):
        if (blob := _blob(path)) is not None:
            return str(blob.download_as_text(timeout=TIMEOUT_SECONDS))
        return Path(path).read_text(encoding="utf-8")
    return None


def _blob(path: str) -> Blob | None:
    """The object; None where the path is a local one."""
    if not path.startswith("gs://"):
        return None
    bucket, _, name = path.removeprefix("gs://").partition("/")
    return storage_client(None).bucket(bucket).blob(name)


def _asking(path: str) -> AbstractContextManager[None]:
    return asking_google(RequestError, f"{path} cannot be used", "name a path that may be read and written")
