"""The report at the end, and what is shown on the way."""

import io
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rejeu.errors import RequestError
from rejeu.replay import report as report_module
from rejeu.replay.report import LINE_SECONDS, Progress, Report, check_writable
from rejeu.state.model import Status

REPORT = Report(
    stream="clicks",
    status=Status.FINISHED,
    published=12_345,
    seconds=2.5,
    messages_per_second=4_938.0,
    lateness_ms={"p50": 3.5, "p99": 9.25, "max": 12.0},
    cursor={"event_time": "2021-05-01T00:00:00.000000Z", "rows_at_that_time": 2},
    epoch=4,
)


class Elapsed:
    """A monotonic clock that stands still until told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    """A standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> Elapsed:
    clock = Elapsed()
    monkeypatch.setattr(report_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def test_a_report_is_written_as_json_into_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    REPORT.write(str(path))
    assert json.loads(path.read_text()) == {
        "stream": "clicks",
        "status": "finished",
        "published": 12_345,
        "seconds": 2.5,
        "messages_per_second": 4938.0,
        "lateness_ms": {"p50": 3.5, "p99": 9.25, "max": 12.0},
        "cursor": {"event_time": "2021-05-01T00:00:00.000000Z", "rows_at_that_time": 2},
        "epoch": 4,
        "error": None,
    }
    assert list(path.parent.iterdir()) == [path], "nothing of the writing is left"


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    REPORT.write(str(path))
    assert json.loads(path.read_text())["epoch"] == 4


def test_asking_whether_a_report_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(str(tmp_path / "report.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below_a_file, folder = tmp_path / "file" / "report.json", tmp_path
    for path, reason in ((below_a_file, "File exists|Not a directory"), (folder, "it is a folder")):
        expected = rf"--report {path}: it cannot be written \(({reason})\); name a file in a folder that you may write"
        with pytest.raises(RequestError, match=expected):
            check_writable(str(path))
    with pytest.raises(RequestError, match="it cannot be written"):
        REPORT.write(str(folder))


def test_a_report_is_one_line_for_a_person() -> None:
    assert str(REPORT) == "clicks: finished: 12,345 rows in 2.5 s (4,938/s, late p50 3.5 ms, p99 9.25 ms), epoch 4"
    at_max = REPORT.model_copy(update={"lateness_ms": None})
    assert str(at_max) == "clicks: finished: 12,345 rows in 2.5 s (4,938/s), epoch 4"


def test_a_standby_that_was_never_needed_says_so() -> None:
    found = Report.of_nothing("clicks", Status.STOPPED, 12.3456)
    assert str(found) == "clicks: stopped: 0 rows in 12.3 s (0/s), epoch 0"
    assert (found.seconds, found.cursor, found.lateness_ms, found.error) == (12.346, None, None, None)


def test_without_a_terminal_progress_is_a_line_every_few_seconds(
    elapsed: Elapsed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Progress(lambda: f"at {elapsed.seconds:g} s") as progress:
        for _ in range(10):
            elapsed.seconds += LINE_SECONDS / 4
            progress.tick()
    assert caplog.messages == ["at 105 s", "at 110 s"]


def test_on_a_terminal_progress_is_drawn_and_nothing_is_logged(
    elapsed: Elapsed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(lambda: "7 rows") as progress:
        elapsed.seconds += 2 * LINE_SECONDS
        progress.tick()
    assert "7 rows" in terminal.getvalue()
    assert caplog.messages == []
