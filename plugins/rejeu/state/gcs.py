"""A state store in a Cloud Storage bucket, for replays on many machines: an object's generation is its version."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rejeu.errors import SourceError, StateConflictError, StateError
from rejeu.ports import Versioned

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
REMEDIES: Final = {
    403: "grant roles/storage.objectUser on the bucket to the account that asks",
    404: "create the bucket, or name another one",
    429: "an object takes one write a second, so let fewer processes write to it",
}
OTHERWISE: Final = "see https://cloud.google.com/storage/docs/json_api/v1/status-codes"

T = TypeVar("T")


class GcsStore:
    """Documents as objects `PREFIX/NAME.json`; any thread may call.

    A write whose answer was lost is tried again and then raises StateConflictError, although it was made. The write
    of another process is never taken for our own.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        from rejeu.gcp.clients import storage_client

        self._folder = f"{prefix.strip('/')}/".lstrip("/")
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
            self.names()  # raises where the bucket is missing: the answer for a missing object is the same
            return None
        body, generation = found
        try:
            return Versioned(json.loads(body), generation)
        except ValueError as error:
            remedy = "restore an older version of that object, or remove it"
            raise StateError(f"state store {self._uri}{name}{SUFFIX}: it is not JSON ({error}): {remedy}") from error

    def save(self, name: str, document: dict[str, Any], expected: int | None) -> int:
        from google.api_core.exceptions import PreconditionFailed

        blob, body = self._blob(name), json.dumps(document)

        def upload() -> int:
            blob.upload_from_string(
                body,
                content_type="application/json",
                if_generation_match=expected or 0,
                timeout=REQUEST_SECONDS,
                retry=None,
            )
            return int(blob.generation)

        try:
            return self._ask(upload)
        except PreconditionFailed:
            raise StateConflictError(f"state of {name} is no longer at version {expected}: read it again") from None

    def names(self) -> list[str]:
        def look() -> list[str]:
            found = self._bucket.list_blobs(prefix=self._folder, timeout=REQUEST_SECONDS, retry=None)
            return [blob.name for blob in found]

        objects = self._ask(look)
        return sorted(each.removeprefix(self._folder).removesuffix(SUFFIX) for each in objects if each.endswith(SUFFIX))

    def _blob(self, name: str) -> Blob:
        return self._bucket.blob(f"{self._folder}{name}{SUFFIX}")

    def _ask(self, call: Callable[[], T]) -> T:
        """What `call` returns; it is tried again where that may help. Raises PreconditionFailed, else StateError.

        The client's own retries are off: after a download that was cut off they ask for the rest of a generation
        that may be gone.
        """
        from google.api_core.exceptions import GoogleAPIError, PreconditionFailed
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from google.cloud.storage.retry import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_delay(initial=PAUSE_SECONDS / 4, maximum=PAUSE_SECONDS).with_timeout(RETRY_SECONDS)
        try:
            answer: T = retry(call)()
            return answer
        except PreconditionFailed:
            raise
        except (GoogleAPIError, GoogleAuthError, DataCorruption, OSError) as error:
            raise StateError(f"state store {self._uri}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    """What went wrong, in the service's own words where it answered, and what to do."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError, from_http_response

    why = error.cause if isinstance(error, RetryError) else error
    if not isinstance(why, GoogleAPICallError):
        return f"{why}: check the network and the credentials"
    said = from_http_response(why.response)
    return f"{said}: {REMEDIES.get(said.code, OTHERWISE)}"
