"""The local open-data server: the real one's answers, whose truth can be told afterwards, and faults by a seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from rejeu.local.servers.open_data import FAULTS, PATH, OpenDataServer, records_at
from rejeu.local.stack.parts import parts_of
from rejeu.local.stack.settings import StackSettings
from rejeu.target import Target

NOON = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def url() -> Iterator[str]:
    with OpenDataServer(0, {}) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{PATH}/"
        server.shutdown()


def test_an_answer_has_the_real_ones_shape_and_is_what_the_stations_have_at_that_time(url: str) -> None:
    answer = requests.get(url, {"dataset": "vlille-realtime", "rows": -1}, timeout=10).json()
    assert answer["nhits"] == len(answer["records"]) == 289
    made_at = datetime.fromisoformat(answer["records"][0]["record_timestamp"])
    assert answer["records"] == records_at(made_at)
    assert set(answer["records"][0]["fields"]) == {
        *("nbvelosdispo", "nbplacesdispo", "libelle", "adresse", "nom", "etat", "commune", "etatconnexion", "type"),
        *("localisation", "datemiseajour"),
    }


def test_who_does_not_ask_for_all_gets_ten(url: str) -> None:
    assert len(requests.get(url, {"dataset": "vlille-realtime"}, timeout=10).json()["records"]) == 10


def test_another_dataset_is_unknown(url: str) -> None:
    assert requests.get(url, {"dataset": "vparis"}, timeout=10).status_code == 404


def test_bikes_and_places_change_and_their_sum_does_not() -> None:
    told = [records_at(NOON + timedelta(minutes=minute)) for minute in range(0, 600, 60)]
    for station in zip(*told, strict=True):
        fields = [record["fields"] for record in station]
        assert len({each["nbvelosdispo"] + each["nbplacesdispo"] for each in fields}) == 1
    assert len({tuple(record["fields"]["nbvelosdispo"] for record in answer) for answer in told}) == len(told)


def test_a_station_says_when_it_told_its_state_within_the_last_minute() -> None:
    for record in records_at(NOON):
        told_at = datetime.fromisoformat(record["fields"]["datemiseajour"])
        assert NOON - timedelta(minutes=1) < told_at <= NOON


def test_a_seed_says_which_answers_a_fault_befalls() -> None:
    def drawn(seed: int) -> list[str | None]:
        with OpenDataServer(0, dict.fromkeys(FAULTS, 0.1), seed) as server:
            return [server.next_fault() for _ in range(400)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert all(20 < drawn(1).count(fault) < 60 for fault in FAULTS)


def test_the_local_stack_names_it_to_every_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REJEU_UI_PORT", raising=False)
    settings = StackSettings.choose(Path("/somewhere/dags"), tmp_path)
    target = Target.from_env(settings.environment())
    assert target.open_data == f"http://{settings.address('open_data')}"
    (part,) = parts_of(settings, ["open-data"])
    assert part.program.command[-1] == str(settings.ports["open_data"])
