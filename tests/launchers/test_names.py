"""Job names as places take them: within the limit, of the right letters, and no two alike."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejeu.launchers.names import short_name

TAKEN = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
NAMES = st.text(max_size=120)


@pytest.mark.parametrize("name", ["a", "rejeu-replay-clicks", "rejeu-replay-clicks-0-of-4", "x" * 63])
def test_a_name_that_fits_stays_as_it_is(name: str) -> None:
    assert short_name(name, 63) == name


def test_a_long_name_keeps_its_beginning_and_gets_a_hash() -> None:
    assert re.fullmatch(r"rejeu-replay-x{39}-[0-9a-f]{10}", short_name(f"rejeu-replay-{'x' * 60}", 63))


def test_long_names_that_differ_at_their_end_alone_stay_apart() -> None:
    names = [f"rejeu-replay-{'x' * 60}-{shard}-of-12" for shard in range(12)]
    assert len({short_name(name, 49) for name in names}) == 12


@given(NAMES, st.integers(20, 90))
def test_any_name_becomes_one_that_is_taken(name: str, limit: int) -> None:
    short = short_name(name, limit)
    assert TAKEN.fullmatch(short)
    assert len(short) <= limit


@given(NAMES, NAMES)
def test_two_names_never_become_one(one: str, other: str) -> None:
    assert (short_name(one, 49) == short_name(other, 49)) == (one == other)
