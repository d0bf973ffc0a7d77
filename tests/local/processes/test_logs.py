"""Reading the logs of all parts."""

from pathlib import Path

import pytest

from rejeu.local.processes import logs
from rejeu.local.processes.logs import last_lines, tail


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0)


def test_each_line_has_its_parts_name_in_front(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\ntwo\n")
    (tmp_path / "b").write_text("three\n")

    lines = tail({"bigquery": tmp_path / "a", "ui": tmp_path / "b"}, follow=False)

    assert list(lines) == ["bigquery | one", "bigquery | two", "ui       | three"]


def test_a_long_log_begins_at_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("".join(f"{number}\n" for number in range(100)))

    assert list(tail({"a": tmp_path / "a"}, follow=False)) == [f"a | {number}" for number in range(90, 100)]


def test_following_yields_what_is_added_once_its_line_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("first\n")
    lines = tail({"a": file}, follow=True)
    assert next(lines) == "a | first"

    with file.open("a") as log:
        log.write("second\nthi")
        log.flush()
        assert next(lines) == "a | second"
        log.write("rd\n\nfifth\n")
        log.flush()
        assert [next(lines), next(lines), next(lines)] == ["a | third", "a | ", "a | fifth"]


def test_a_rotated_log_is_read_from_its_start(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("a long first line\n")
    lines = tail({"a": file}, follow=True)
    next(lines)

    file.write_text("new\n")

    assert next(lines) == "a | new"


def test_a_part_that_never_ran_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none", 5) == []
    assert list(tail({"a": tmp_path / "none"}, follow=False)) == []
