"""The journal has each message once, by event time, outlives its process, and forgets what is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from beam_jobs.direct.journal import Entry, Journal
from rejeu.errors import StateError

SECOND = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "clicks.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with closing(Journal(path)) as made:
        yield made


def entry(row_id: str, second: float = 0, key: str = "ann") -> Entry:
    return Entry(row_id, key, round(second * SECOND), row_id.encode())


def messages(journal: Journal) -> list[bytes]:
    return [message for _, message in journal.entries()]


def test_a_message_is_written_once_and_the_journal_says_which_were_new(journal: Journal) -> None:
    assert journal.add([entry("a"), entry("b"), entry("a")]) == {"a", "b"}
    assert journal.add([entry("b"), entry("c")]) == {"c"}
    assert sorted(messages(journal)) == [b"a", b"b", b"c"]


def test_messages_come_by_event_time(journal: Journal) -> None:
    journal.add([entry("late", 9), entry("early", -1), entry("middle", 3)])
    assert list(journal.entries()) == [(-SECOND, b"early"), (3 * SECOND, b"middle"), (9 * SECOND, b"late")]


def test_what_was_written_is_there_for_the_next_job(path: Path) -> None:
    with closing(Journal(path)) as first:
        first.add([entry("a")])
    with closing(Journal(path)) as second:
        assert messages(second) == [b"a"]
        assert second.add([entry("a")]) == set()


def test_all_of_a_pull_is_written_or_nothing(journal: Journal) -> None:
    with pytest.raises(ZeroDivisionError):
        journal.add(entry(str(1 // number)) for number in (1, 0))
    assert messages(journal) == []


def test_a_second_job_is_refused_while_the_first_one_lives(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_jobs.direct.journal.BUSY_SECONDS", 0)
    with pytest.raises(StateError, match=r"clicks\.db: database is locked; .* stop other jobs"):
        Journal(path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="make its folder writable"):
        Journal(tmp_path / "file" / "clicks.db")


def test_what_happened_before_an_instant_is_forgotten(journal: Journal) -> None:
    journal.add([entry("a", 1), entry("b", 2), entry("c", 3, key="bob")])
    assert journal.forget(2 * SECOND, pause_us=0) == 1
    assert messages(journal) == [b"b", b"c"]


def test_a_session_is_forgotten_whole_or_not_at_all(journal: Journal) -> None:
    journal.add([entry("old", 0), entry("old, too", 9), entry("open", 19), entry("open, too", 28)])
    journal.add([entry("bob's", 9, key="bob")])
    assert journal.forget(20 * SECOND, pause_us=10 * SECOND) == 3
    assert messages(journal) == [b"open", b"open, too"]
