"""Hooks of Google with and without the connection: a fresh Airflow has none, and then the environment says who asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook
from airflow.providers.google.cloud.hooks.pubsub import PubSubHook
from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

from rejeu.airflow.google import google_hook

VARIABLE = "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"
HOOKS = (BigQueryHook, GoogleBaseHook, PubSubHook)
PERSON = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "t"}


@pytest.mark.parametrize("kind", HOOKS)
def test_a_connection_says_who_asks(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"project": "own-project", "is_anonymous": True}
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "google_cloud_platform", "extra": extra}))
    assert google_hook(kind).project_id == "own-project"


@pytest.mark.parametrize("kind", HOOKS)
def test_without_a_connection_the_environments_credentials_are_used(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "person.json").write_text(json.dumps(PERSON))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "person.json"))
    hook = google_hook(kind)
    assert isinstance(hook, kind)
    assert hook.get_credentials().refresh_token == "t"
