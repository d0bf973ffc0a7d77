"""What the live view of windows shows: of each key and window the row that counts most, whoever wrote it and when."""

import uuid
from collections.abc import Callable

import pytest
from google.cloud import bigquery

from rejeu.bigquery import sql
from rejeu.spec.pipelines import PIPELINES
from tests.servers import PATIENCE_SECONDS

pytestmark = pytest.mark.emulated

CLICKS = PIPELINES["clicks"]

Row = tuple[str, int, int, int]
"""The key, start and end in minutes, and how many records."""
Show = Callable[..., list[Row]]


@pytest.fixture
def show(client: bigquery.Client) -> Show:
    """Writes rows to a batch and a streaming table that no other test uses; what the view has of them."""
    dataset = f"rejeu-test.d{uuid.uuid4().hex}"
    client.create_dataset(dataset, timeout=PATIENCE_SECONDS)
    assert CLICKS.columns is not None
    assert CLICKS.windows is not None
    names = [column.name for column in CLICKS.columns]
    schema = [bigquery.SchemaField.from_api_repr(column.to_api()) for column in CLICKS.columns]

    def run(text: str) -> list[tuple[str, int, int, int]]:
        return [
            tuple(row.values()) for row in client.query(text, timeout=PATIENCE_SECONDS).result(timeout=PATIENCE_SECONDS)
        ]

    def show(*streamed: Row, batch: tuple[Row, ...] | None = None) -> list[Row]:
        for table, rows in (("streaming", streamed), ("batch", batch or ())):
            client.create_table(bigquery.Table(f"{dataset}.{table}", schema=schema), timeout=PATIENCE_SECONDS)
            for pane, (user, start, end, count) in enumerate(rows):
                values = f"{_at(start)}, '{user}', {count}, {_at(end)}, {pane}, 'EARLY'"
                run(f"INSERT INTO `{dataset}.{table}` ({', '.join(names)}) VALUES ({values})")
        view = bigquery.Table(f"{dataset}.live")
        history = None if batch is None else f"{dataset}.batch"
        view.view_query = sql.final_rows(f"{dataset}.streaming", history, CLICKS.windows, names)
        client.create_table(view, timeout=PATIENCE_SECONDS)
        found = run(f"SELECT user_pseudo_id, window_start, window_end, event_count FROM `{dataset}.live`")
        return sorted((user, start.minute, end.minute, count) for user, start, end, count in found)

    return show


def _at(minute: int) -> str:
    return f"TIMESTAMP '2021-05-01T00:{minute:02}:00Z'"


def test_of_a_windows_panes_the_fullest_is_shown_in_whatever_order_they_came(show: Show) -> None:
    assert show(("ann", 0, 1, 1), ("ann", 0, 1, 3), ("ann", 0, 1, 2)) == [("ann", 0, 1, 3)]


def test_windows_that_touch_are_shown_each_and_so_is_each_key(show: Show) -> None:
    rows = (("ann", 0, 1, 2), ("ann", 1, 2, 3), ("ann", 7, 8, 1), ("bob", 0, 1, 9))
    assert show(*reversed(rows)) == sorted(rows)


def test_a_pane_that_is_written_twice_is_shown_once(show: Show) -> None:
    assert show(("ann", 0, 1, 2), ("ann", 0, 1, 2), ("bob", 0, 1, 2)) == [("ann", 0, 1, 2), ("bob", 0, 1, 2)]


def test_windows_counted_anew_from_the_start_show_the_fuller_count_meanwhile(show: Show) -> None:
    before, anew = (("ann", 0, 1, 5), ("ann", 1, 2, 4)), (("ann", 0, 1, 5), ("ann", 1, 2, 1))
    assert show(*before, *anew) == list(before)


def test_a_session_that_grew_swallows_what_it_was(show: Show) -> None:
    assert show(("ann", 5, 9, 1), ("ann", 5, 14, 2), ("ann", 2, 14, 3)) == [("ann", 2, 14, 3)]


def test_a_session_swallows_others_that_a_record_between_them_joined(show: Show) -> None:
    apart = (("ann", 0, 10, 1), ("ann", 16, 26, 2), ("bob", 16, 26, 2))
    assert show(*apart, ("ann", 0, 26, 4), ("ann", 40, 50, 1)) == [
        ("ann", 0, 26, 4),
        ("ann", 40, 50, 1),
        ("bob", 16, 26, 2),
    ]


def test_a_window_of_batch_and_stream_is_shown_once_with_the_fuller_count(show: Show) -> None:
    batch = (("ann", 0, 1, 2), ("ann", 1, 2, 5))
    streamed = (("ann", 1, 2, 3), ("ann", 1, 2, 7), ("ann", 2, 3, 1))
    assert show(*streamed, batch=batch) == [("ann", 0, 1, 2), ("ann", 1, 2, 7), ("ann", 2, 3, 1)]


def test_the_batch_alone_is_shown_before_anything_streams(show: Show) -> None:
    assert show(batch=(("ann", 0, 1, 2),)) == [("ann", 0, 1, 2)]
