"""Row ids and keys: the same for ever, different for different rows, short enough for Pub/Sub."""

from hypothesis import given
from hypothesis import strategies as st

from rejeu.message import MAX_KEY_CHARS, digest, key_text, row_id

PUBSUB_ATTRIBUTE_BYTES = 1_024

values = st.text() | st.integers() | st.floats(allow_nan=False) | st.none()
keys = st.lists(values, min_size=1, max_size=5).map(tuple)


def test_a_row_id_reads_as_stream_time_key_and_ordinal() -> None:
    assert row_id("crypto_rates", 1_619_827_212_349_376, key_text((42,)), 0) == "crypto_rates/1619827212349376/42/0"


def test_a_key_of_several_columns_stays_readable() -> None:
    assert key_text(("BTC", 42)) == "BTC~42"


def test_no_value_and_no_text_are_two_keys() -> None:
    assert key_text((None,)) != key_text(("",))


def test_a_feed_without_a_key_has_an_empty_one() -> None:
    assert key_text(()) == ""


def test_a_key_at_the_limit_is_kept_and_a_longer_one_is_hashed() -> None:
    longest = "k" * MAX_KEY_CHARS
    assert key_text((longest,)) == longest
    assert key_text((longest + "k",)) == digest(longest.encode() + b"k")


def test_long_keys_that_differ_at_their_end_alone_differ() -> None:
    assert key_text(("k" * 300 + "a",)) != key_text(("k" * 300 + "b",))


def test_the_digest_never_changes_for_ids_live_in_tables() -> None:
    assert digest(b"rejeu") == "527d227875bad51f340b0b5e"


@given(keys, st.integers(-(2**62), 2**62), st.integers(0, 10**9))
def test_a_row_id_fits_into_an_attribute(key: tuple[object, ...], event_us: int, ordinal: int) -> None:
    name = "s" * 63
    assert len(row_id(name, event_us, key_text(key), ordinal).encode()) <= PUBSUB_ATTRIBUTE_BYTES


@given(keys, st.integers(0, 10), st.integers(0, 10))
def test_rows_of_one_key_and_time_differ_by_their_ordinal(key: tuple[object, ...], one: int, other: int) -> None:
    assert (row_id("s", 0, key_text(key), one) == row_id("s", 0, key_text(key), other)) == (one == other)
