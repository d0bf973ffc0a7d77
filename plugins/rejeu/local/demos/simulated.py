"""What the demos of simulated streams share: a source that is made up, and goes on for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from rejeu.jobs.build import replay_of
from rejeu.local.demos.demo_data import DemoData
from rejeu.replay.format.encode import encode
from rejeu.replay.source.generated import open_generator
from rejeu.replay.source.times import event_times
from rejeu.timeline import Position, to_us


class SimulatedData(DemoData):
    """The spec's own simulator makes the day's files, too."""

    endless = True

    def history(self) -> Iterable[bytes]:
        end = to_us(self.midnight)
        return self._made(end - timedelta(days=1) // timedelta(microseconds=1), Position(end))

    def streamed(self, end: Position | None) -> Iterable[bytes]:
        assert end is not None, "an endless source is replayed up to some place"
        return self._made(to_us(self.midnight), end)

    def _made(self, from_us: int, end: Position) -> Iterator[bytes]:
        """The rows from `from_us` to `end`, of whose instant `count` rows belong to them."""
        at_the_end = 0
        source = replay_of(self.spec).source
        for table in open_generator(str(source.generator)).tables(from_us):
            times = event_times(table[self.spec.source_time], self.spec.source_time, source.time_unit)
            for at_us, line in zip(times.to_pylist(), encode(table).to_pylist(), strict=True):
                at_the_end += at_us == end.event_us
                if at_us > end.event_us or at_the_end > end.count:
                    return
                if at_us >= from_us:
                    yield line
