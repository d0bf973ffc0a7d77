"""Days of data for the examples: which days, in which order, and for which streams."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from rejeu.cli.stack import what_next
from rejeu.errors import StackError
from rejeu.local.demos import seed as seeding
from rejeu.local.stack.stack import Login
from rejeu.spec.files import load_specs, read_spec
from rejeu.target import Target
from tests.paths import STREAMS

TARGET = Target(project="rejeu-test", bucket="bucket")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
OWN = "stream: mine\nevent_time: at\nlive: {topic: mine, table: a.b}\nreplay: {source: {table: a.c}}\n"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, date]]:
    """What the examples write, in order: the stream, what, and of which day."""
    found: list[tuple[str, str, date]] = []
    for stream, kind in seeding.DEMOS.items():

        def note(what: str, stream: str = stream) -> object:
            return lambda self: found.append((stream, what, self.day))

        monkeypatch.setattr(kind, "write_history", note("files"))
        monkeypatch.setattr(kind, "write_source", note("source"))
    return found


def test_days_end_with_the_one_that_the_batch_loads_next(written: list[tuple[str, str, date]]) -> None:
    days = seeding.seed(read_spec(STREAMS / "crypto_rates.yaml"), TARGET, 3, NOON)
    assert days == [date(2026, 11, 25), date(2026, 11, 26), date(2026, 11, 27)]
    assert written == [*(("crypto_rates", "files", day) for day in days), ("crypto_rates", "source", days[-1])]


def test_before_the_batchs_hour_the_newest_run_is_about_the_day_before(written: list[tuple[str, str, date]]) -> None:
    night = NOON.replace(hour=0, minute=30)
    assert seeding.seed(read_spec(STREAMS / "crypto_rates.yaml"), TARGET, 1, night) == [date(2026, 11, 26)]


def test_every_example_of_a_folder_has_its_day_and_no_other_stream(
    written: list[tuple[str, str, date]], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(OWN)
    seeding.seed_examples(load_specs([STREAMS, tmp_path]), TARGET)
    assert {stream for stream, _, _ in written} == {file.stem for file in STREAMS.glob("*.yaml")}


def test_a_stream_that_is_no_example_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN)
    with pytest.raises(StackError, match="there is no demo of 'mine': name one of crypto_rates"):
        seeding.seed(read_spec(tmp_path / "mine.yaml"), TARGET)


def test_the_terminal_ends_with_what_to_do_next(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN)
    lines = list(what_next("http://here", Login("admin", "secret"), load_specs([STREAMS, tmp_path])))
    text = "\n".join(lines)
    assert "http://here" in text
    assert "admin, password secret" in text
    assert "Switch on one of bike_stations.batch, " in text
    assert "Trigger mine.live" in text
    assert "`rejeu down` ends everything" in text
