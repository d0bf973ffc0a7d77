"""What Google's libraries raise comes out as one of our errors: what, why, and the remedy."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import Forbidden
from google.auth.exceptions import DefaultCredentialsError

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
