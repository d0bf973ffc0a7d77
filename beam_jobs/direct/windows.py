"""Windows on the DirectRunner as on Dataflow: closed and labelled by event time, and safe from a kill.

Beam's runner keeps the watermark of Pub/Sub at the wall clock, and uses the wall clock as the watermark when the early
pane of a window is due, so all records of history would be late. Also, the cost of a record grows with the number of
windows that its key has ever had. There is no seam to change this, so private parts are replaced
(`tests/beam_jobs/direct/test_windows.py` fails when Beam changes them).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from apache_beam.runners.direct import evaluation_context, transform_evaluator
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import GeneralTriggerDriver
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from google.pubsub_v1 import PubsubMessage

from beam_jobs.direct.journal import Entry, Journal
from beam_jobs.direct.runner import replaced
from beam_jobs.direct.state import KeyState
from beam_jobs.transforms.decode import WRONG
from beam_jobs.transforms.windows import Windowed, key_text
from rejeu.message import MAX_REQUEST_MESSAGES

IDLE_SECONDS: Final = 5.0
"""After so long without a message, event time goes on with the wall clock, so that the last windows end."""
AHEAD_US: Final = 60_000_000
"""How far ahead of ours a publisher's clock may be."""
LEAP_US: Final = 86_400_000_000
FORGET_SECONDS: Final = 60.0

RawMessage = Any
"""A message of Pub/Sub as bare protobuf: the client's wrapper takes longer to read than everything else."""


class EventClock:
    """The newest event time seen, in microseconds since the epoch; it never goes back.

    A time ahead of the wall clock and more than a day ahead of all others is taken for a mistake and ignored.
    """

    def __init__(self, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._clock = wall, clock
        self._newest_us: int | None = None
        self._reached_us: int | None = None
        self._busy_at = clock()

    def see(self, event_us: Iterable[int]) -> None:
        """Messages with these event times came."""
        self.stay()
        for each in sorted(event_us):
            if self._is_believed(each):
                self._newest_us = max(each, self._newest_us or each)

    def stay(self) -> None:
        """Hold event time for a while: messages came, or may wait while Pub/Sub does not answer."""
        self._busy_at = self._clock()

    def read(self) -> int | None:
        """The current event time; None before the first message."""
        if self._newest_us is not None:
            idle = max(0.0, self._clock() - self._busy_at - IDLE_SECONDS)
            reached_us = self._newest_us + int(idle * 1e6)
            self._reached_us = max(reached_us, self._reached_us or reached_us)
        return self._reached_us

    def _is_believed(self, event_us: int) -> bool:
        if event_us <= self._wall() * 1e6 + AHEAD_US:
            return True
        return self._newest_us is not None and event_us <= self._newest_us + LEAP_US


class LocalWindows:
    """How a job with windows handles its messages; every call comes from the runner's one thread."""

    def __init__(self, windowed: Windowed, journal: Journal, clock: EventClock) -> None:
        self._windowed, self._journal, self._clock = windowed, journal, clock
        self._decode = windowed.make_decoder()
        self._before = journal.entries()
        self._forget_at = 0.0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The DirectRunner uses event time while the block runs."""
        read, driver = transform_evaluator._PubSubReadEvaluator, GeneralTriggerDriver
        beams_bundle, beams_timer, beams_elements = read.finish_bundle, driver.process_timer, driver.process_elements

        def finish_bundle(evaluator: Any) -> Any:
            # Read before the pull, so that its messages do not make each other late.
            event_us = self._clock.read()
            result = beams_bundle(evaluator)
            result.keyed_watermark_holds = {None: MIN_TIMESTAMP if event_us is None else Timestamp(micros=event_us)}
            return result

        def process_elements(driver: Any, state: KeyState, values: list[Any], *watermarks: Timestamp) -> Iterator[Any]:
            state.fetch(window for value in values for window in value.windows)
            yield from beams_elements(driver, state, values, *watermarks)
            state.set_aside()

        def process_timer(
            driver: Any, window_id: int, name: str, domain: str, at: Timestamp, state: KeyState, watermark: Timestamp
        ) -> Iterator[Any]:
            window = state.seen(window_id)
            if window is None:
                # Beam may call twice for one timer: the first call wrote what was due.
                return
            by_wall_clock = domain == TimeDomain.REAL_TIME
            # Beam keeps the timer of an early pane after the window's end: it would write nothing new.
            if not (by_wall_clock and name.endswith("early") and window.end <= watermark):
                # With the wall clock's time the trigger would close every window.
                now = watermark if by_wall_clock else at
                yield from beams_timer(driver, window_id, name, domain, now, state, watermark)
            state.set_aside()

        with (
            replaced(read, finish_bundle=finish_bundle),
            replaced(driver, process_elements=process_elements, process_timer=process_timer),
            replaced(evaluation_context, DirectUnmergedState=KeyState),
        ):
            yield

    def again(self) -> list[RawMessage]:
        """Up to 1,000 messages of earlier jobs, for windows to count again; none when all have come."""
        entries = list(islice(self._before, MAX_REQUEST_MESSAGES))
        if entries:
            self._clock.see(event_us for event_us, _ in entries)
        return [PubsubMessage.pb().FromString(message) for _, message in entries]

    def keep(self, messages: Mapping[str, RawMessage]) -> set[str]:
        """Write messages to the journal by row id, before windows get them; returns the row ids that it had already.

        A message that cannot be decoded belongs to no window and is not kept.
        """
        entries = [entry for row_id, message in messages.items() if (entry := self._entry(row_id, message))]
        self._clock.see(entry.event_us for entry in entries)
        known = {entry.row_id for entry in entries} - self._journal.add(entries)
        self._forget()
        return known

    def stay(self) -> None:
        """Pub/Sub does not answer: messages of the meantime are still to come."""
        self._clock.stay()

    def _entry(self, row_id: str, message: RawMessage) -> Entry | None:
        try:
            record = self._decode(message.data)
        except WRONG:
            return None
        return Entry(row_id, key_text(record.key), record.event_us, message.SerializeToString())

    def _forget(self) -> None:
        windowed, event_us, now = self._windowed, self._clock.read(), time.monotonic()
        if windowed.lateness_seconds is None or event_us is None or now < self._forget_at:
            return
        self._forget_at = now + FORGET_SECONDS
        closed_us = event_us - round((windowed.lateness_seconds + windowed.seconds) * 1e6)
        self._journal.forget(closed_us, pause_us=round(windowed.pause_seconds * 1e6))
