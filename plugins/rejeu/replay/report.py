"""What a replay says of itself: a report at its end, and its progress, drawn on a terminal and logged elsewhere."""

from __future__ import annotations

import errno
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.live import Live
from rich.text import Text

from rejeu.errors import RequestError
from rejeu.state.model import Status

log = logging.getLogger(__name__)

LINE_SECONDS = 5.0


class Report(BaseModel):
    """The result of one replay. `seconds` is wall time; `lateness_ms` has p50, p99 and max, None at speed max."""

    model_config = ConfigDict(frozen=True)

    stream: str
    status: Status
    published: int
    seconds: float
    messages_per_second: float
    lateness_ms: dict[str, float] | None
    cursor: dict[str, Any] | None
    epoch: int
    error: str | None = None

    @classmethod
    def of_nothing(cls, stream: str, status: Status, seconds: float) -> Self:
        """The report of a standby that never took over."""
        return cls(
            stream=stream,
            status=status,
            published=0,
            seconds=round(seconds, 3),
            messages_per_second=0.0,
            lateness_ms=None,
            cursor=None,
            epoch=0,
        )

    def write(self, path: str) -> None:
        """Write as JSON, whole or not at all: a reader never sees half a report. Raises RequestError."""
        with _partial(path) as partial:
            partial.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
            partial.replace(path)

    def __str__(self) -> str:
        late = (
            f", late p50 {self.lateness_ms['p50']:g} ms, p99 {self.lateness_ms['p99']:g} ms" if self.lateness_ms else ""
        )
        return (
            f"{self.stream}: {self.status}: {self.published:,} rows in {self.seconds:.1f} s "
            f"({self.messages_per_second:,.0f}/s{late}), epoch {self.epoch}"
        )


def check_writable(path: str) -> None:
    """Raises RequestError where no report can be written to this path; for use before the first row."""
    with _partial(path) as partial:
        partial.touch()
        partial.unlink()
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")


@contextmanager
def _partial(path: str) -> Iterator[Path]:
    """The file that is written first, beside the report's. Raises RequestError where the system refuses."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target.with_name(target.name + ".partial")
    except OSError as error:
        reason = f"it cannot be written ({error.strerror})"
        raise RequestError(f"--report {path}: {reason}; name a file in a folder that you may write to") from None


class Progress:
    """Shows the line that `describe` returns: redrawn on a terminal, logged every few seconds elsewhere."""

    def __init__(self, describe: Callable[[], str]) -> None:
        self._describe = describe
        self._next = time.monotonic() + LINE_SECONDS
        console = Console(file=sys.stderr)
        self._live = Live(console=console, get_renderable=self._text, refresh_per_second=4, transient=True)
        self._drawn = console.is_terminal

    def _text(self) -> Text:
        return Text(self._describe())

    def __enter__(self) -> Self:
        if self._drawn:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._live.stop()

    def tick(self) -> None:
        """Call often: writes a log line when one is due."""
        if not self._drawn and time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            log.info("%s", self._describe())
