"""How the launchers of Google's services ask: for a bounded while, and with refusals that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from rejeu.errors import LaunchError

if TYPE_CHECKING:
    from google.api_core.retry import Retry

CALL_SECONDS: Final = 30.0
"""How long one call may take; Google's clients wait for ever by default."""
FIRST_POLL_SECONDS: Final = 0.1
LAST_POLL_SECONDS: Final = 2.0

Seen = TypeVar("Seen")


@contextmanager
def asking(name: str, service: str, roles: str) -> Iterator[None]:
    """Turns whatever goes wrong with a service into a LaunchError about the job `name`."""
    from google.api_core.exceptions import ClientError, Forbidden, GoogleAPIError, Unauthorized
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    remedies: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        ((Forbidden, Unauthorized), f"Grant whoever asks {roles}"),
        (GoogleAuthError, "Run `gcloud auth application-default login`, or give this machine a service account"),
        (ClientError, "Correct what the target says of project, region, image and service account"),
        (Exception, "Look at the network and at https://status.cloud.google.com, then try again"),
    )
    try:
        yield
    except (GoogleAPIError, GoogleAuthError, RequestException, TimeoutError) as error:
        remedy = next(text for kinds, text in remedies if isinstance(error, kinds))
        raise LaunchError(f"{name} cannot be managed by {service}: {str(error).rstrip('.')}. {remedy}") from error


def patient(seconds: float) -> Retry:
    """Asks again, for so many seconds, where a service is away; for questions only, which change nothing."""
    from google.api_core.exceptions import ServerError, TooManyRequests
    from google.api_core.retry import Retry, if_exception_type
    from requests import ConnectionError

    away = if_exception_type(ServerError, TooManyRequests, ConnectionError)
    return Retry(predicate=away, initial=FIRST_POLL_SECONDS, maximum=LAST_POLL_SECONDS, timeout=seconds)


def look_until(look: Callable[[], Seen | None], seconds: float) -> Seen | None:
    """The first thing seen, looking less and less often; None where nothing came in so many seconds."""
    end = time.monotonic() + seconds
    pause = FIRST_POLL_SECONDS
    while (seen := look()) is None and time.monotonic() < end:
        time.sleep(pause)
        pause = min(2 * pause, LAST_POLL_SECONDS)
    return seen
