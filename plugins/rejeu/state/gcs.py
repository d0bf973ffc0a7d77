"""A state store in a Cloud Storage bucket, for replays on many machines: an object's generation is its version."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rejeu.errors import SourceError, StateError, translated
from rejeu.ports import Versioned
from rejeu.state.documents import conflict, parse

if TYPE_CHECKING:
    from google.cloud.storage import Blob

REQUEST_SECONDS: Final = 1.5
"""How long connecting may take, and again an answer."""
RETRY_SECONDS: Final = 2.0
"""How long after the first try another one may begin, so that a call ends before the lease it renews. Google's client
by default goes on for two minutes, with a minute for each try."""
PAUSE_SECONDS: Final = 1.0
"""The longest pause before another try: an object takes one write a second
(https://cloud.google.com/storage/quotas#objects), so a write that came too soon then succeeds."""
SUFFIX: Final = ".json"
_SEEN: Final[set[tuple[str, str]]] = set()
"""Buckets that were there, each with the service that has it."""
T = TypeVar("T")


class GcsStore:
    """Documents as objects `PREFIX/NAME.json`; any thread may call.

    A write whose answer was lost is tried again and then raises StateConflictError, although it was made. The write
    of another process is never taken for our own.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        from rejeu.gcp.clients import storage_client

        self._folder = f"{prefix.strip('/')}/"
        self._uri = f"gs://{bucket}/{self._folder}"
        try:
            self._bucket = storage_client(None).bucket(bucket)
        except SourceError as error:
            raise StateError(f"state store {self._uri}: {error}") from error

    def load(self, name: str) -> Versioned | None:
        from google.api_core.exceptions import NotFound

        blob = self._blob(name)

        def download() -> tuple[bytes, int] | None:
            try:
                return blob.download_as_bytes(timeout=REQUEST_SECONDS, retry=None), int(blob.generation)
            except NotFound:
                return None

        found = self._ask(download)
        if found is None:
            self._look_for_bucket()  # the answer for a missing object is the same as for a missing bucket
            return None
        body, generation = found
        return Versioned(parse(body, f"state store {self._uri}{name}{SUFFIX}"), generation)

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        from google.api_core.exceptions import PreconditionFailed

        blob, body = self._blob(name), json.dumps(document)

        def upload() -> int:
            try:
                blob.upload_from_string(
                    body,
                    content_type="application/json",
                    if_generation_match=expected or 0,
                    timeout=REQUEST_SECONDS,
                    retry=None,
                )
            except PreconditionFailed:
                raise conflict(name, expected) from None
            return int(blob.generation)

        return self._ask(upload)

    def remove(self, name: str, expected: int) -> None:
        from google.api_core.exceptions import NotFound, PreconditionFailed

        blob = self._blob(name)

        def delete() -> bool:
            try:
                blob.delete(if_generation_match=expected, timeout=REQUEST_SECONDS, retry=None)
            except (NotFound, PreconditionFailed):
                return False
            return True

        if not self._ask(delete):
            self._look_for_bucket()
            raise conflict(name, expected)

    def names(self) -> list[str]:
        names = [each.removeprefix(self._folder) for each in self._ask(self._objects)]
        return sorted(each.removesuffix(SUFFIX) for each in names if each.endswith(SUFFIX) and "/" not in each)

    def _objects(self, limit: int | None = None) -> list[str]:
        """The names of this folder's objects, without those of folders below."""
        found = self._bucket.list_blobs(
            prefix=self._folder, delimiter="/", max_results=limit, timeout=REQUEST_SECONDS, retry=None
        )
        return [blob.name for blob in found]

    def _look_for_bucket(self) -> None:
        """Make sure that the bucket is there, once a process: a list is billed like a write. Raises StateError."""
        bucket = (self._bucket.client.api_endpoint, self._bucket.name)
        if bucket not in _SEEN:
            self._ask(lambda: self._objects(limit=1))
            _SEEN.add(bucket)

    def _blob(self, name: str) -> Blob:
        return self._bucket.blob(f"{self._folder}{name}{SUFFIX}")

    def _ask(self, call: Callable[[], T]) -> T:
        """What `call` returns; it is tried again where that may help. Raises StateError.

        The client's own retries are off: after a download that was cut off they ask for the rest of a generation
        that may be gone.
        """
        from google.api_core.exceptions import RetryError
        from google.cloud.storage.retry import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_delay(initial=PAUSE_SECONDS / 4, maximum=PAUSE_SECONDS).with_timeout(RETRY_SECONDS)
        with self._asking():
            try:
                answer: T = retry(call)()
                return answer
            except RetryError as error:
                raise error.cause or error from None  # what the last try ended with says more

    def _asking(self) -> AbstractContextManager[None]:
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption

        return translated(
            StateError,
            f"state store {self._uri} cannot be used",
            (exceptions.Forbidden, "grant roles/storage.objectUser on the bucket to the account that asks"),
            (exceptions.NotFound, "create the bucket, or name another one"),
            (exceptions.TooManyRequests, "an object takes one write a second, so let fewer processes write to it"),
            (exceptions.GoogleAPICallError, "see https://cloud.google.com/storage/docs/json_api/v1/status-codes"),
            (
                (exceptions.GoogleAPIError, GoogleAuthError, DataCorruption, OSError),
                "check the network and the credentials",
            ),
            why=_why,
        )


def _why(error: Exception) -> str:
    """What went wrong, in the service's own words where it answered."""
    from google.api_core.exceptions import GoogleAPICallError, from_http_response

    return str(from_http_response(error.response) if isinstance(error, GoogleAPICallError) else error)
