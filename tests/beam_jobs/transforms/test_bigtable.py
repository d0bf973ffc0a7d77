"""Rows and sums in Bigtable, asked of Google's emulator and of our fake alike; and what happens when it misbehaves."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.cloud.bigtable import Client
from google.cloud.bigtable.data import MutationsExceptionGroup, ReadRowsQuery, RowMutationEntry, SetCell
from google.cloud.bigtable.data.row_filters import CellsColumnLimitFilter

from beam_jobs.transforms.bigtable import write
from rejeu.gcp.bigtable import EVENT, FAMILIES, OCCUPANCY, STATUS, WRITE_TIME, ensure_served, key_part, range_of
from rejeu.gcp.clients import bigtable_table
from tests.beam_jobs.bigtables import PROJECT, STREAM, Bigtable
from tests.fakes.bigtable_server import BigtableServer

Code = grpc.StatusCode
pytestmark = pytest.mark.emulated


def entry(key: str, value: str = "1", stamp: int = 1000, family: str = EVENT) -> RowMutationEntry:
    return RowMutationEntry(key, [SetCell(family, "event", value, stamp)])


def read(bigtable: Bigtable, prefix: str = "e") -> dict[str, str]:
    query = ReadRowsQuery(row_ranges=[range_of(prefix)], row_filter=CellsColumnLimitFilter(1))
    return {row.row_key.decode(): row.cells[0].value.decode() for row in bigtable.table.read_rows(query)}


def server_of(bigtable: Bigtable) -> BigtableServer:
    assert bigtable.fake is not None
    return bigtable.fake


def test_a_table_is_made_once_and_a_family_that_it_lacks_is_added(bigtable: Bigtable) -> None:
    client = Client(project=PROJECT, admin=True)
    old = client.instance(bigtable.instance_id).table("old")
    old.create(column_families={EVENT: None})
    write(bigtable.table, [entry("event#1")])
    for name in (STREAM, "old"):
        ensure_served(client, bigtable.instance_id, name)
    assert read(bigtable) == {"event#1": "1"}
    assert set(old.list_column_families()) == set(FAMILIES)


def test_what_is_written_again_is_there_once(bigtable: Bigtable) -> None:
    for _ in range(2):
        assert write(bigtable.table, [entry(f"event#{number}") for number in range(1500)]) == {}
    assert len(read(bigtable)) == 1500


def test_the_cell_with_the_higher_stamp_is_believed_whichever_is_written_last(bigtable: Bigtable) -> None:
    write(bigtable.table, [entry("event#up", "1", 1000), entry("event#down", "2", 2000)])
    write(bigtable.table, [entry("event#up", "2", 2000), entry("event#down", "1", 1000)])
    assert read(bigtable) == {"event#up": "2", "event#down": "2"}


def test_a_name_that_is_like_another_ones_beginning_or_has_a_separator_is_a_name_of_its_own(bigtable: Bigtable) -> None:
    names = ["a", "ab", "a#b", "a%23b", "a%", "é#", "z\U0010ffff"]
    write(bigtable.table, [entry(f"event#{key_part(name)}#1", name) for name in names])
    for name in names:
        assert list(read(bigtable, f"event#{key_part(name)}#").values()) == [name]


def test_a_status_is_read_back_by_the_names_it_was_written_for(bigtable: Bigtable) -> None:
    cells = [SetCell(STATUS, OCCUPANCY, "-3", 1000), SetCell(STATUS, WRITE_TIME, "2021-05-01T00:00:00.000000Z", 1000)]
    write(bigtable.table, [RowMutationEntry(f"status#{key_part('a#b')}#{key_part('100%')}", cells)])
    assert bigtable.occupancies() == {("a#b", "100%"): -3}


@pytest.mark.parametrize("missing", ["table", "family"])
def test_what_is_not_the_rows_fault_is_raised(bigtable: Bigtable, missing: str) -> None:
    table = bigtable_table(bigtable.instance, "none", 5) if missing == "table" else bigtable.table
    with pytest.raises(MutationsExceptionGroup):
        write(table, [entry("event#1", family="none" if missing == "family" else EVENT)])


@pytest.mark.parametrize("fault", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, "lost"])
def test_a_server_that_is_away_is_waited_for(fake: Bigtable, fault: Any) -> None:
    server_of(fake).faults = iter([fault, fault])
    assert write(fake.table, [entry(f"event#{number}") for number in range(10)]) == {}
    server_of(fake).faults = iter([fault])
    assert len(read(fake)) == 10


def test_only_the_rows_that_failed_are_tried_again(fake: Bigtable) -> None:
    tried: list[bytes] = []

    def refuse_once(key: bytes) -> Code | None:
        tried.append(key)
        return Code.UNAVAILABLE if tried.count(key) == 1 and key.endswith(b"7") else None

    server_of(fake).refused = refuse_once
    assert write(fake.table, [entry(f"event#{number}") for number in range(10)]) == {}
    assert len(read(fake)) == 10
    assert len(tried) == 11


def test_a_server_that_stays_away_is_an_error_and_no_rows_fault(fake: Bigtable) -> None:
    server_of(fake).refused = lambda key: Code.UNAVAILABLE
    with pytest.raises(MutationsExceptionGroup):
        write(bigtable_table(fake.instance, STREAM, 0.2), [entry("event#1")])


def test_a_row_that_is_refused_for_itself_keeps_no_other_from_being_written(fake: Bigtable) -> None:
    server_of(fake).refused = lambda key: Code.INVALID_ARGUMENT if key == b"event#3" else None
    refused = write(fake.table, [entry(f"event#{number}") for number in range(10)])
    assert set(refused) == {b"event#3"}
    assert "refused" in refused[b"event#3"]
    assert len(read(fake)) == 9


def test_a_call_that_is_refused_whole_is_halved_until_the_guilty_row_stands_alone(fake: Bigtable) -> None:
    # All ten, then of them the halves, the quarters and the one in which row 3 is.
    wrong, well = Code.INVALID_ARGUMENT, None
    server_of(fake).faults = iter([wrong, wrong, well, wrong, wrong, well, well])
    refused = write(fake.table, [entry(f"event#{number}") for number in range(10)])
    assert set(refused) == {b"event#2"}
    assert len(read(fake)) == 9
