"""Raw files: an API's answers by the second that they belong to, each written once; `api.py` knows their content."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final, Protocol

from rejeu.errors import SourceError
from rejeu.gcp.errors import asking_google
from rejeu.timeline import from_us, to_us

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

DAY: Final = "%Y-%m-%d"
SECOND: Final = "%H%M%S"
TIMEOUT_SECONDS: Final = 30.0


class Store(Protocol):
    """Files by name."""

    def names(self, prefix: str, first: str) -> Iterator[str]:
        """The names that begin with `prefix` and are `first` or come after it in the alphabet, in any order."""

    def read(self, name: str) -> bytes | None:
        """The file's content; None where there is no such file."""

    def create(self, name: str, body: bytes) -> bool:
        """Write the file, whole or not at all; False where it exists: then it stays as it is."""


class RawFiles:
    """The answers of one API, as `<root>/HHMMSS.json`; the day replaces `{partition}` in the root; all times are UTC.

    Every method raises SourceError where the root cannot be used.
    """

    def __init__(self, root: str, project: str | None) -> None:
        self._root = root.rstrip("/")
        self._store: Store
        path = self._root
        if path.startswith("gs://"):
            bucket, _, path = path.removeprefix("gs://").partition("/")
            self._store = InBucket(bucket, project)
        else:
            path, self._store = str(Path(path)), InFolders()
        self._before, _, self._behind = path.partition("{partition}")
        day, second = r"(\d{4}-\d\d-\d\d)", r"(\d{6})"
        self._pattern = re.compile(f"{re.escape(self._before)}{day}{re.escape(self._behind)}/{second}\\.json")

    def path_of(self, at_us: int) -> str:
        """The path of this instant's answer, for a person."""
        at = from_us(at_us)
        return f"{self._root}/{at:{SECOND}}.json".replace("{partition}", f"{at:{DAY}}")

    def instants(self, from_us: int | None, until_us: int) -> list[int]:
        """The instants that have answers, in microseconds, from `from_us` (None: the first) to before `until_us`."""
        with self._asking():
            names = self._store.names(self._before, "" if from_us is None else self._name(from_us))
            found = (self._pattern.fullmatch(name) for name in names)
            instants = sorted(_instant_us(*match.groups()) for match in found if match)
        return [each for each in instants if (from_us is None or from_us <= each) and each < until_us]

    def read(self, at_us: int) -> bytes | None:
        """The answer of this instant, None where there is none."""
        with self._asking():
            return self._store.read(self._name(at_us))

    def keep(self, at_us: int, body: bytes) -> bytes:
        """Write the answer of this instant, unless somebody was first; returns the one that is kept."""
        with self._asking():
            if self._store.create(self._name(at_us), body):
                return body
            return self._store.read(self._name(at_us)) or body

    def _name(self, at_us: int) -> str:
        at = from_us(at_us)
        return f"{self._before}{at:{DAY}}{self._behind}/{at:{SECOND}}.json"

    def _asking(self) -> AbstractContextManager[None]:
        remedy = "use an account that may read, list and create files there"
        return asking_google(SourceError, f"--raw {self._root} cannot be used", remedy)


class InFolders:
    """On this machine's disk."""

    def names(self, prefix: str, first: str) -> Iterator[str]:
        names = (str(path) for path in Path(prefix + "*").parent.rglob("*.json"))
        return (name for name in names if name.startswith(prefix) and name >= first)

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return Path(name).read_bytes()
        return None

    def create(self, name: str, body: bytes) -> bool:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written under another name first: a kill in between leaves no half-written answer.
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".partial") as partial:
            partial.write(body)
            partial.flush()
            try:
                os.link(partial.name, path)
            except FileExistsError:
                return False
        return True


class InBucket:
    """In Cloud Storage."""

    def __init__(self, bucket: str, project: str | None) -> None:
        from rejeu.gcp.clients import storage_client

        self._bucket: Bucket = storage_client(project).bucket(bucket)

    def names(self, prefix: str, first: str) -> Iterator[str]:
        blobs = self._bucket.list_blobs(prefix=prefix, start_offset=first or None, timeout=TIMEOUT_SECONDS)
        return (blob.name for blob in blobs)

    def read(self, name: str) -> bytes | None:
        from google.api_core.exceptions import NotFound

        with suppress(NotFound):
            body: bytes = self._bucket.blob(name).download_as_bytes(timeout=TIMEOUT_SECONDS)
            return body
        return None

    def create(self, name: str, body: bytes) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        try:
            self._bucket.blob(name).upload_from_string(
                body, content_type="application/json", if_generation_match=0, timeout=TIMEOUT_SECONDS
            )
        except PreconditionFailed:
            return False
        return True


def _instant_us(day: str, second: str) -> int:
    return to_us(datetime.strptime(day + second, DAY + SECOND).replace(tzinfo=UTC))
