"""Asks a public API over HTTP with timeouts, growing pauses, and respect for its Retry-After.

When it is asked, and where its answers are kept, is decided in `api.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from rejeu.errors import SourceError
from rejeu.jobs.request import ReplayRequest
from rejeu.replay.send.pacer import Clock
from rejeu.replay.source.secrets import Secrets
from rejeu.timeline import format_instant, from_us

log = logging.getLogger(__name__)

SECOND_US: Final = 1_000_000
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0
"""How long the API may send nothing."""
PAUSES: Final = wait_random_exponential(multiplier=0.5, max=15)
"""Seconds before another try: random, up to twice the last limit, so that clients do not all come back at once."""
PATIENT_STEPS: Final = 10
"""After so many steps without an answer, however short they are, a person must look."""
LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The HTTP errors that another try may get past."""
MOST_REDIRECTS: Final = 5
BLOCK_BYTES: Final = 1 << 16
MOST_BYTES: Final = 16_000_000
"""An answer is held in memory as a whole, and its records beside it, which may take thirty times as much."""
LONGEST_PAUSE_SECONDS: Final = 86_400.0
"""What an API may ask for with Retry-After; it counts as one that does not answer long before that."""


class NoAnswerError(Exception):
    """This try brought no usable answer; another one may."""


class TooLargeError(Exception):
    """The answer is larger than what is read of one; another try in the same step would cost as much."""


class _Session(requests.Session):
    """One that does not follow where an answer refers to: requests would read that answer first, however long it is."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nowhere."""
        return None


class Api:
    """One question to an API, tried again until `step_us` have passed."""

    def __init__(self, request: ReplayRequest, step_us: int, clock: Clock, check: Callable[[bytes], object]) -> None:
        """`check` raises ValueError or RecursionError for an answer that is none."""
        self._stream, self._url, self._headers = request.stream, str(request.api), request.headers.root
        self._step_us, self._clock = step_us, clock
        self._patience_us = max(int(request.patience_seconds * SECOND_US), PATIENT_STEPS * step_us)
        self._secrets = Secrets(request.paying_project)
        # It logs the whole address where an answer's headers are broken.
        self._secrets.guard("urllib3")
        self._session = _Session()
        self._check = check
        self._failing_since_us: int | None = None
        self._not_before_us = 0

    def ask(self, at_us: int) -> bytes | None:
        """The answer of the step that begins at this instant; None where the step ends without one.

        Raises SourceError where the API refuses the question or has not answered for long, or a secret is missing.
        """
        until_us = at_us + self._step_us

        def is_over(state: RetryCallState) -> bool:
            return self._clock.now_us() + state.upcoming_sleep * SECOND_US >= until_us

        tries = Retrying(
            retry=retry_if_exception_type(NoAnswerError),
            wait=PAUSES,
            stop=is_over,
            sleep=self._clock.wait,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            body: bytes = tries(self._try, until_us)
        except (NoAnswerError, TooLargeError) as error:
            self._give_up(at_us, error)
            return None
        if self._failing_since_us is not None:
            log.info("%s: the API answers again after %.1f s", self._stream, self._failing_for())
            self._failing_since_us = None
        return body

    def _try(self, until_us: int) -> bytes:
        if self._not_before_us > self._clock.now_us():
            raise NoAnswerError(f"it asked for a pause until {format_instant(from_us(self._not_before_us))}")
        left = max((until_us - self._clock.now_us()) / SECOND_US, 0.001)
        timeouts = (min(CONNECT_SECONDS, left), min(READ_SECONDS, left))
        try:
            with self._get(timeouts) as response:
                self._judge(response)
                body = b"".join(self._blocks(response, until_us))
            self._check(body)
        except (InvalidSchema, InvalidURL, MissingSchema) as error:
            raise SourceError(self._secrets.mask(f"--api {self._url} cannot be asked: {error}; mend it")) from None
        except (requests.RequestException, OSError) as error:
            raise NoAnswerError(self._secrets.mask(str(error))) from None
        except (ValueError, RecursionError) as error:
            raise NoAnswerError(self._secrets.mask(f"its answer is broken: {error}")) from None
        return body

    def _get(self, timeouts: tuple[float, float]) -> requests.Response:
        """Ask, with every secret in its place, and follow where it refers to.

        Raises SourceError where a secret is missing, NoAnswerError where it refers on and on.
        """
        url = str(self._secrets.fill(self._url, partial(quote, safe="")))
        headers = {name: str(self._secrets.fill(text)) for name, text in self._headers.items()}
        for _ in range(MOST_REDIRECTS):
            response = self._session.get(url, headers=headers, timeout=timeouts, stream=True)
            if not response.is_redirect:
                return response
            response.close()
            following = urljoin(url, response.headers["Location"])
            if not _is_same_server(url, following):
                headers = {}  # they are for the server that was asked
            url = following
        raise NoAnswerError(f"it refers to another address more than {MOST_REDIRECTS} times")

    def _judge(self, response: requests.Response) -> None:
        """Raises NoAnswerError for an error that may pass, SourceError for one that will not."""
        if response.ok:
            return
        said = self._secrets.mask(f"{response.status_code} {response.reason}")
        if response.status_code not in LATER:
            raise SourceError(f"--api {self._url} answers {said}: it does not take this question; mend it")
        self._not_before_us = self._clock.now_us() + self._asked_pause_us(response.headers.get("Retry-After", "0"))
        raise NoAnswerError(f"it answers {said}")

    def _asked_pause_us(self, retry_after: str) -> int:
        """The pause that Retry-After asks for (https://www.rfc-editor.org/rfc/rfc9110#name-retry-after), as long as
        one may be."""
        seconds = 0.0
        if retry_after.isdecimal():
            seconds = float(retry_after)  # any number of digits, unlike int
        else:
            with suppress(ValueError, OverflowError):
                at: datetime = parsedate_to_datetime(retry_after)
                at = at if at.tzinfo else at.replace(tzinfo=UTC)
                seconds = at.timestamp() - self._clock.now_us() / SECOND_US
        return int(min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS) * SECOND_US)

    def _blocks(self, response: requests.Response, until_us: int) -> Iterator[bytes]:
        """The body in blocks. Raises NoAnswerError where it is not complete when the step ends, and TooLargeError."""
        told, size = response.headers.get("Content-Length", ""), 0
        if told.isdecimal() and float(told) > MOST_BYTES:
            raise _too_large()
        for block in response.iter_content(BLOCK_BYTES):
            size += len(block)
            if size > MOST_BYTES:
                raise _too_large()
            yield block
            if self._clock.now_us() > until_us:
                raise NoAnswerError("its answer did not come to an end in time")

    def _note(self, state: RetryCallState) -> None:
        """Remember since when there is no answer, and log it once."""
        if self._failing_since_us is None:
            self._failing_since_us = self._clock.now_us()
            error = state.outcome and state.outcome.exception()
            log.warning("%s: no answer from %s: %s; trying again", self._stream, self._url, error)

    def _give_up(self, at_us: int, error: Exception) -> None:
        """Leave a gap and log it. Raises SourceError where there have been gaps for too long."""
        if self._failing_since_us is None:
            self._failing_since_us = self._clock.now_us()
        log.warning("%s: %s stays without an answer: %s", self._stream, format_instant(from_us(at_us)), error)
        if self._failing_for() * SECOND_US > self._patience_us:
            raise SourceError(
                f"--api {self._url} has not answered for {self._failing_for():.0f} s ({error}): check "
                "whether it still exists, and start again with --from cursor"
            )

    def _failing_for(self) -> float:
        """For how many seconds there has been no answer."""
        since_us = self._failing_since_us
        return 0.0 if since_us is None else (self._clock.now_us() - since_us) / SECOND_US


def _is_same_server(asked: str, following: str) -> bool:
    """Whether both are of one server, which may have changed to https."""
    old, new = urlsplit(asked), urlsplit(following)
    is_upgrade = new.scheme == "https" and {old.port, new.port} == {None}
    return old.hostname == new.hostname and (is_upgrade or (old.scheme, old.port) == (new.scheme, new.port))


def _too_large() -> TooLargeError:
    return TooLargeError(f"its answer is larger than {MOST_BYTES:,} bytes: ask for less at a time")
