"""The SQL as text; what it does to rows is shown in tests/emulated/test_sql.py."""

import re

import pytest

from rejeu.bigquery import sql

STATEMENTS = {
    "live view": sql.live_view("p.d.streaming", "p.d.batch", "at", ["at", "user"]),
    "live view without a batch": sql.live_view("p.d.streaming", None, "at", ["at", "user"]),
    "replace a slice": sql.replace_slice("p.d.batch", "p.d.staging", ["at", "user"], "DATE(at) = @day"),
    "measure a partition": sql.measure_partition("p.d.batch", "at"),
    "last instant": sql.last_instant("p.d.batch", "at"),
    "insert a row": sql.insert_once("p.d.incidents", ["stream", "lost_at", "cause"], ["stream", "lost_at"]),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_table_is_quoted_and_named_in_full(statement: str) -> None:
    text = STATEMENTS[statement]
    assert text.count("`p.d.") == text.count("p.d.") > 0
    assert text.count("`") % 2 == 0


@pytest.mark.parametrize("statement", STATEMENTS)
def test_no_line_is_indented_by_where_it_was_written(statement: str) -> None:
    assert not STATEMENTS[statement].startswith(" ")


def test_the_live_view_selects_the_columns_by_name_so_that_the_row_id_stays_inside() -> None:
    batch, _, streaming = STATEMENTS["live view"].partition("\nUNION ALL\n")
    assert batch == "SELECT `at`, `user` FROM `p.d.batch`"
    assert streaming.startswith("SELECT streamed.`at`, streamed.`user`\n")
    assert STATEMENTS["live view without a batch"].startswith("SELECT `at`, `user` FROM (SELECT * FROM `p.d.streaming`")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_column_may_be_called_what_sql_keeps_for_itself(statement: str) -> None:
    bare = re.sub(r"`[^`]*`|@\w+|DATE\(at\) = @day", "", STATEMENTS[statement])
    assert not re.search(r"\b(at|user|stream|lost_at)\b", bare.replace("streamed", ""))


def test_a_field_of_a_record_is_quoted_part_by_part() -> None:
    assert sql.last_instant("p.d.batch", "request.at") == "SELECT MAX(`request`.`at`) AS last FROM `p.d.batch`"


def test_a_slice_is_replaced_by_one_statement() -> None:
    text = STATEMENTS["replace a slice"]
    assert ";" not in text
    assert "BY SOURCE AND DATE(at) = @day THEN DELETE" in text
    assert text.endswith("INSERT (`at`, `user`) VALUES (`at`, `user`)")


def test_values_travel_as_parameters() -> None:
    assert "SELECT @stream, @lost_at, @cause FROM" in STATEMENTS["insert a row"]
    assert "WHERE `stream` = @stream AND `lost_at` = @lost_at)" in STATEMENTS["insert a row"]
    assert "@day" in STATEMENTS["measure a partition"]
