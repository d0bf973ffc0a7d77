"""Reads secrets of Google's Secret Manager over its REST API: its client library would be one more for every replay."""

from __future__ import annotations

import base64
from typing import Final

from rejeu.errors import SourceError

TIMEOUT_SECONDS: Final = 10.0
FORBIDDEN: Final = "grant roles/secretmanager.secretAccessor on it to the account that the replay runs as"
MISSING: Final = "make it (`gcloud secrets create`), or mend its name"


def read_secret(name: str, project: str) -> str | None:
    """The newest version of `NAME` in the project, or that of `projects/P/secrets/NAME[/versions/V]`.

    None where there is no such secret. Raises SourceError where it cannot be read.
    """
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    from rejeu.gcp.clients import secret_manager_endpoint, secret_manager_session

    path = name if name.startswith("projects/") else f"projects/{project}/secrets/{name}"
    path = path if "/versions/" in path else f"{path}/versions/latest"
    what = f"the secret {path} cannot be read"
    try:
        answer = secret_manager_session().get(f"{secret_manager_endpoint()}/v1/{path}:access", timeout=TIMEOUT_SECONDS)
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise SourceError(f"{what}: Secret Manager answers {answer.status_code}; {FORBIDDEN}")
        answer.raise_for_status()
        return base64.b64decode(answer.json()["payload"]["data"], validate=True).decode()
    except (GoogleAuthError, RequestException) as error:
        raise SourceError(f"{what}: {error}; look at the network, then start again") from None
    except (ValueError, KeyError, TypeError):
        raise SourceError(f"{what}: it is no text; write a version that is") from None
