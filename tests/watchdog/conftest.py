"""A stream to repair."""

from collections.abc import Iterator

import pytest

from rejeu.state import lease
from rejeu.state import stream as stream_module
from rejeu.watchdog import repair
from tests.watchdog.watched import Watched


@pytest.fixture
def stream() -> Iterator[Watched]:
    """A stream that never ran."""
    made = Watched()
    with made.clock.installed(lease, stream_module, repair):
        yield made
