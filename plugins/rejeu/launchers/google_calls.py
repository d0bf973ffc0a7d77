"""How the launchers of Google's services ask: for a bounded while, and with refusals that say what to do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from rejeu.errors import LaunchError
from rejeu.gcp.errors import AWAY, asking_google
from rejeu.launchers.waiting import FIRST_POLL_SECONDS, LAST_POLL_SECONDS

if TYPE_CHECKING:
    from google.api_core.retry import Retry

CALL_SECONDS: Final = 30.0
"""How long one call may take; Google's clients wait for ever by default."""


def asking(name: str, service: str, roles: str) -> AbstractContextManager[None]:
    """Turns whatever goes wrong with a service into a LaunchError about the job `name`."""
    return asking_google(
        LaunchError,
        f"{name} cannot be managed by {service}",
        "correct what the target says of project, region, image and service account",
        forbidden=f"grant whoever asks {roles}",
        away=AWAY,
    )


def patient(seconds: float) -> Retry:
    """Asks again, for so many seconds, where a service is away; for questions only, which change nothing."""
    from google.api_core.exceptions import ServerError, TooManyRequests
    from google.api_core.retry import Retry, if_exception_type
    from requests import ConnectionError

    away = if_exception_type(ServerError, TooManyRequests, ConnectionError)
    return Retry(predicate=away, initial=FIRST_POLL_SECONDS, maximum=LAST_POLL_SECONDS, timeout=seconds)
