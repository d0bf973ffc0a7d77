"""Errors of Google's libraries in our words; what every other library raises goes straight to `errors.translated`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rejeu.errors import RejeuError, translated

LOG_IN = "run `gcloud auth application-default login`"
AWAY = "look at the network and at https://status.cloud.google.com, then try again"


def making_client(
    service: str, into: type[RejeuError] = RejeuError, otherwise: str | None = None
) -> AbstractContextManager[None]:
    """While a client is made: no credentials. `otherwise` is what helps in their place."""
    from google.auth.exceptions import GoogleAuthError

    remedy = f"{LOG_IN}, or {otherwise}" if otherwise else LOG_IN
    return translated(into, f"{service} cannot be asked", ((GoogleAuthError, OSError), remedy))


def asking_google(
    into: type[RejeuError],
    what: str,
    remedy: str,
    *,
    forbidden: str | None = None,
    missing: str | None = None,
    away: str | None = None,
    why: Callable[[Any], str] = str,
) -> AbstractContextManager[None]:
    """While a service is asked, or a file that may be one of Cloud Storage.

    `forbidden`, `missing` and `away` are what helps in place of `remedy` where the account may not, where there is no
    such thing, and where the service or the network does not answer.
    """
    from google.api_core.exceptions import (
        ClientError,
        Forbidden,
        GoogleAPIError,
        NotFound,
        TooManyRequests,
        Unauthorized,
    )
    from google.auth.exceptions import GoogleAuthError, TransportError

    return translated(
        into,
        what,
        ((Forbidden, Unauthorized), forbidden or remedy),
        (NotFound, missing or remedy),
        ((TooManyRequests, TransportError), away or remedy),
        (GoogleAuthError, LOG_IN),
        (ClientError, remedy),
        ((GoogleAPIError, OSError), away or remedy),
        why=why,
    )
