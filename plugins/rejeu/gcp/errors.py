"""Errors of Google's libraries in our words; what every other library raises goes straight to `errors.translated`."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rejeu.errors import RejeuError, translated

LOG_IN = "run `gcloud auth application-default login`"


def making_client(
    service: str, into: type[RejeuError] = RejeuError, otherwise: str | None = None
) -> AbstractContextManager[None]:
    """While a client is made: no credentials. `otherwise` is what helps in their place."""
    from google.auth.exceptions import GoogleAuthError

    remedy = f"{LOG_IN}, or {otherwise}" if otherwise else LOG_IN
    return translated(into, f"{service} cannot be asked", remedy, GoogleAuthError, OSError)


def asking_google(
    into: type[RejeuError], what: str, remedy: str, *, brief: bool = False
) -> AbstractContextManager[None]:
    """While a service is asked, or a file that may be one of Cloud Storage."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    return translated(into, what, remedy, GoogleAPIError, GoogleAuthError, OSError, brief=brief)
