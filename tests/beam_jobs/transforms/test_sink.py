"""Rows go in few calls; what is refused dies alone; what cannot be written fails the bundle."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, InternalServerError, NotFound

from beam_jobs.transforms import sink
from beam_jobs.transforms.records import Row
from beam_jobs.transforms.sink import MAX_INSERT_ID_CHARS, MAX_ROWS, InsertRows
from tests.beam_jobs.builders import STREAM, make_message

TABLE = "rejeu-test.d.rates"


class FakeClient:
    """A table that takes rows as BigQuery does: with one bad row none, unless told to skip it."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.calls: list[int] = []

    def insert_rows_json(
        self, table: str, rows: list[dict[str, Any]], *, row_ids: list[str], skip_invalid_rows: bool, **_: object
    ) -> list[dict[str, Any]]:
        self.calls.append(len(rows))
        bad = {index for index, row in enumerate(rows) if row["value"] == "bad"}
        if bad and not skip_invalid_rows:
            return self.refuse(rows, bad)
        self.rows += [row_id for index, row_id in enumerate(row_ids) if index not in bad]
        return [{"index": index, "errors": [{"reason": "invalid"}]} for index in bad]

    def refuse(self, rows: list[dict[str, Any]], bad: set[int]) -> list[dict[str, Any]]:
        reasons = ["invalid" if index in bad else "stopped" for index in range(len(rows))]
        return [{"index": index, "errors": [{"reason": reason}]} for index, reason in enumerate(reasons)]


class FakeEmulator(FakeClient):
    """bqemulator's way to say that a row is wrong."""

    def refuse(self, rows: list[dict[str, Any]], bad: set[int]) -> list[dict[str, Any]]:
        raise InternalServerError("Cannot convert")


class Refusing(FakeClient):
    """A table that refuses a whole call for one row in it, and does not say which."""

    def insert_rows_json(self, table: str, rows: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
        if any(row["value"] == "bad" for row in rows):
            self.calls.append(len(rows))
            raise BadRequest("Request payload is wrong")
        return super().insert_rows_json(table, rows, **options)


def insert(
    monkeypatch: pytest.MonkeyPatch, client: FakeClient, values: list[str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Insert one bundle of these values; the row ids that it wrote, and its dead letters."""
    monkeypatch.setattr(sink, "client_for", lambda table: client)
    step = InsertRows(STREAM, TABLE, "out")
    step.start_bundle()
    for index, value in enumerate(values):
        step.process(Row(f"s/{index}", {"value": value}, make_message(b"{}")))
    letters = [windowed.value.values for windowed in step.finish_bundle()]
    return client.rows, letters


def test_a_bundle_goes_in_few_calls_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    written, letters = insert(monkeypatch, client, ["good"] * (MAX_ROWS * 2 + 1))
    assert client.calls == [MAX_ROWS, MAX_ROWS, 1]
    assert written == [f"s/{index}" for index in range(MAX_ROWS * 2 + 1)]
    assert letters == []


def test_a_call_stays_below_what_bigquery_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    insert(monkeypatch, client, ["x" * 2_000_000] * 5)
    assert client.calls == [2, 2, 1]


def test_a_row_id_longer_than_bigquery_takes_goes_by_a_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    monkeypatch.setattr(sink, "client_for", lambda table: client)
    step = InsertRows(STREAM, TABLE, "out")
    step.start_bundle()
    for row_id in ("s/1", "x" * 300 + "1", "x" * 300 + "2"):
        step.process(Row(row_id, {"value": "good"}, make_message(b"{}")))
    list(step.finish_bundle())
    assert client.rows[0] == "s/1"
    assert len(set(client.rows)) == 3
    assert max(map(len, client.rows)) <= MAX_INSERT_ID_CHARS


@pytest.mark.parametrize("client", [FakeClient(), FakeEmulator(), Refusing()], ids=lambda client: type(client).__name__)
def test_a_refused_row_becomes_a_dead_letter_and_the_others_are_written_once(
    monkeypatch: pytest.MonkeyPatch, client: FakeClient
) -> None:
    written, letters = insert(monkeypatch, client, ["good", "good", "bad", "good", "bad"])
    assert sorted(written) == ["s/0", "s/1", "s/3"]
    assert sorted(letter["row_id"] for letter in letters) == ["s/2", "s/4"]
    assert {letter["step"] for letter in letters} == {"insert"}


def test_what_no_row_is_to_blame_for_fails_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(FakeClient):
        def insert_rows_json(self, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
            raise NotFound("no such table")

    with pytest.raises(NotFound):
        insert(monkeypatch, Gone(), ["good"])
