"""Row ids and keys: the same for ever, different for different rows, short enough for Pub/Sub."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.message import MAX_KEY_CHARS, digest
from rejeu.replay.format.ids import key_texts, row_ids

PUBSUB_ATTRIBUTE_BYTES = 1_024
TEXT, BINARY = pa.large_string(), pa.large_binary()

texts = st.text() | st.none()
keys = st.lists(st.tuples(texts, texts), min_size=1)


def key(*values: str | None) -> str:
    """The key of one row."""
    (found,) = key_texts([pa.array([value], TEXT) for value in values]).to_pylist()
    assert isinstance(found, str)
    return found


def ids(stream: str, rows: Sequence[tuple[int, str]], bodies: Sequence[bytes] = ()) -> list[str]:
    """The ids of rows of a time and a key, which are equal unless their bodies are given."""
    times = np.array([at for at, _ in rows], np.int64)
    keys, data = pa.array([name for _, name in rows], TEXT), pa.array(bodies or [b"row"] * len(rows), BINARY)
    found: list[str] = row_ids(stream, times, keys, data).to_pylist()
    return found


def test_a_row_id_reads_as_stream_time_key_and_ordinal() -> None:
    assert ids("crypto_rates", [(1_619_827_212_349_376, "42")]) == ["crypto_rates/1619827212349376/42/0"]


def test_a_time_before_1970_is_a_negative_number() -> None:
    assert ids("old", [(-1, "a"), (2**62, "a")]) == ["old/-1/a/0", f"old/{2**62}/a/0"]


def test_a_key_of_several_columns_stays_readable() -> None:
    assert key("BTC", "42") == "BTC~42"


def test_no_value_and_no_text_are_two_keys() -> None:
    assert key(None) != key("")


def test_a_key_at_the_limit_is_kept_and_a_longer_one_is_hashed() -> None:
    longest = "k" * MAX_KEY_CHARS
    assert key(longest) == longest
    assert key(longest + "k") == digest(longest.encode() + b"k")


def test_long_keys_that_differ_at_their_end_alone_differ() -> None:
    assert key("k" * 300 + "a") != key("k" * 300 + "b")


def test_the_digest_never_changes_for_ids_live_in_tables() -> None:
    assert digest(b"rejeu") == "527d227875bad51f340b0b5e"


@given(keys)
@settings(deadline=None)
def test_a_key_is_its_values_or_their_digest(rows: list[tuple[str | None, str | None]]) -> None:
    joined = ["~".join("\\N" if value is None else value for value in row) for row in rows]
    columns = [pa.array([row[index] for row in rows], TEXT) for index in (0, 1)]
    assert key_texts(columns).to_pylist() == [
        text if len(text) <= MAX_KEY_CHARS else digest(text.encode()) for text in joined
    ]


@given(texts, st.integers(-(2**62), 2**62), st.integers(1, 20))
@settings(deadline=None)
def test_a_row_id_fits_into_an_attribute(value: str | None, event_us: int, equals: int) -> None:
    found = ids("s" * 63, [(event_us, key(value))] * equals)
    assert max(len(each.encode()) for each in found) <= PUBSUB_ATTRIBUTE_BYTES


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=30).map(sorted))
@settings(deadline=None)
def test_rows_of_one_time_and_key_are_counted(rows: list[tuple[int, str]]) -> None:
    seen: dict[tuple[int, str], int] = {}
    expected = []
    for row in rows:
        expected.append(f"s/{row[0]}/{row[1]}/{seen.get(row, 0)}")
        seen[row] = seen.get(row, 0) + 1
    assert ids("s", rows) == expected
