"""Simulators that go on for ever: the same rows wherever one begins, an end where one is given, and none otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rejeu.errors import LeaseLostError
from rejeu.jobs.request import CURSOR
from rejeu.replay.source.generated import open_generator
from rejeu.replay.source.generators.endless import MINUTE_US, SECOND_US
from rejeu.timeline import Position, format_instant, from_us, parse_instant, to_us
from tests.fakes.breaking_store import Store
from tests.fakes.broker import FakeBroker
from tests.replay.rows import SECONDS, STREAM, MakeReplay, Rows, Run
from tests.state.fencing import fence_off

pytestmark = pytest.mark.slow

Read = Callable[..., Rows]

START = to_us(parse_instant("2026-01-01T00:00:00Z"))
DAY = 24 * 60
SOURCES: dict[str, dict[str, Any]] = {
    "iot_sensors:sensors=3,every=20": {"event_time": "Timestamp", "key": ("sensor",)},
    "site_access:every=60": {"event_time": "eventTime", "key": ("device",)},
    "clickstream:every=20": {"event_time": "event_timestamp", "time_unit": "us", "key": ("user_pseudo_id",)},
}

simulated = pytest.mark.parametrize("generator", SOURCES)


@cache
def times(generator: str) -> list[int]:
    """When the rows of its first day happen, in microseconds, as the tables have them."""
    column = pa.concat_tables(open_generator(f"{generator},minutes={DAY}").tables())[SOURCES[generator]["event_time"]]
    return column.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]


def until(us: int) -> str:
    return format_instant(from_us(us))


@simulated
@given(st.integers(-1, DAY), st.integers(0, MINUTE_US - 1))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_rows_are_the_same_wherever_one_begins(read: Read, generator: str, minute: int, us: int) -> None:
    begun = START + minute * MINUTE_US + us
    ended = begun + 90 * MINUTE_US
    # To count its rows, one with a limit makes all of them, from the start on.
    whole = read(generator=f"{generator},limit=1000000", until=until(ended), **SOURCES[generator])
    expected = [row for row in whole if row[0] >= begun]
    assert read(Position(begun), generator=generator, until=until(ended), **SOURCES[generator]) == expected


@simulated
def test_the_seed_decides_the_rows(generator: str) -> None:
    same, other = (next(open_generator(f"{generator},seed={seed}").tables()) for seed in (0, 1))
    assert next(open_generator(generator).tables()).equals(same)
    assert not same.equals(other)


@simulated
def test_times_never_go_back(generator: str) -> None:
    assert len(times(generator)) > 1_000
    assert times(generator) == sorted(times(generator))


@simulated
def test_a_limit_is_kept_to_the_row_wherever_one_begins(read: Read, generator: str) -> None:
    whole = read(generator=f"{generator},minutes={DAY}", **SOURCES[generator])
    limited = f"{generator},limit=700"
    assert read(generator=limited, **SOURCES[generator]) == whole[:700]
    assert read(Position(whole[650][0]), generator=limited, **SOURCES[generator]) == whole[650:700]
    assert read(Position(whole[700][0]), generator=limited, **SOURCES[generator]) == []


@simulated
def test_so_many_minutes_end_it_as_until_does(read: Read, generator: str) -> None:
    begun = START + 12 * 60 * MINUTE_US
    ended = begun + 30 * MINUTE_US
    rows = read(Position(begun), generator=generator, until=until(ended), **SOURCES[generator])
    assert rows
    assert begun <= rows[0][0] < rows[-1][0] < ended
    assert read(Position(begun), generator=f"{generator},minutes={12 * 60 + 30}", **SOURCES[generator]) == rows
    assert read(generator=generator, until=until(START), **SOURCES[generator]) == []


@simulated
def test_nothing_happens_before_the_start(generator: str) -> None:
    start = START + 9 * 60 * MINUTE_US + 25 * SECOND_US
    first = next(open_generator(f"{generator},start={until(start)}").tables(START))
    assert start <= first[SOURCES[generator]["event_time"]].cast(pa.int64())[0].as_py() < start + 60 * MINUTE_US


@simulated
def test_it_goes_on_for_ever(generator: str) -> None:
    a_year_on = START + 365 * DAY * MINUTE_US
    assert sum(table.num_rows for table in islice(open_generator(generator).tables(a_year_on), 20)) == 10_000


@simulated
def test_its_files_hold_the_rows_that_it_replays(read: Read, generator: str, tmp_path: Path) -> None:
    path, limited = tmp_path / "rows.ndjson", f"{generator},limit=900"
    path.write_bytes(b"".join(open_generator(limited).lines()))
    replayed = read(generator=limited, **SOURCES[generator])
    assert [row[:2] for row in read(file=str(path), **SOURCES[generator])] == [row[:2] for row in replayed]


@simulated
@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_replay_of_it_is_gone_on_from_where_it_ended(
    broker: FakeBroker, store: Store, replay: MakeReplay, background: Run, read: Read, generator: str, end: str
) -> None:
    first = replay(file=None, generator=generator, **SOURCES[generator])
    running = background(first)
    broker.wait_for(lambda: len(broker.got) > 1_000)
    if end == "stopped":
        first.stop()
        running.result(SECONDS)
    else:
        fence_off(store, STREAM, 1)
        with pytest.raises(LeaseLostError):
            running.result(SECONDS)
    last = max(int(message.attributes["row_id"].split("/")[1]) for message in broker.got)
    window = {"generator": generator, "until": until(last + DAY * MINUTE_US)} | SOURCES[generator]
    replay(file=None, from_=CURSOR, **window).run()
    published = [message.attributes["row_id"] for message in broker.got]
    expected = [row_id for _, row_id, _ in read(stream=STREAM, **window)]
    assert set(published) == set(expected)
    assert end == "killed" or len(published) == len(expected)
