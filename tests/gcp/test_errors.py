"""What Google's libraries raise comes out as one of our errors: what, why, and the remedy."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest, Forbidden, NotFound, RetryError, ServiceUnavailable, TooManyRequests
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from rejeu.errors import LaunchError, SourceError
from rejeu.gcp.errors import asking_google, making_client


def test_missing_credentials_are_answered_with_how_to_log_in() -> None:
    told = r"^Cloud Run cannot be asked: none; run `gcloud auth application-default login`$"
    with pytest.raises(LaunchError, match=told), making_client("Cloud Run", LaunchError):
        raise DefaultCredentialsError("none")


def test_an_emulator_is_offered_where_there_is_one() -> None:
    told = "login`, or set PUBSUB_EMULATOR_HOST$"
    with (
        pytest.raises(LaunchError, match=told),
        making_client("Pub/Sub", LaunchError, otherwise="set PUBSUB_EMULATOR_HOST"),
    ):
        raise DefaultCredentialsError("none")


def test_a_refusal_keeps_googles_words() -> None:
    told = r"^it cannot be read: 403 no; ask$"
    with pytest.raises(SourceError, match=told), asking_google(SourceError, "it cannot be read", "ask"):
        raise Forbidden("no")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (Forbidden("no"), "grant a role"),
        (NotFound("none"), "make it"),
        (BadRequest("odd"), "mend it"),
        (TooManyRequests("slower"), "wait"),
        (ServiceUnavailable("away"), "wait"),
        (RetryError("away", None), "wait"),
        (TransportError("away"), "wait"),
        (ConnectionError("away"), "wait"),
        (RefreshError("expired"), "run `gcloud auth application-default login`"),
    ],
)
def test_a_refusal_is_answered_with_what_helps_against_its_kind(error: Exception, remedy: str) -> None:
    asking = asking_google(SourceError, "it", "mend it", forbidden="grant a role", missing="make it", away="wait")
    with pytest.raises(SourceError, match=f"; {remedy}$"), asking:
        raise error
