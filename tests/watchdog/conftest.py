"""How hypothesis runs here, with no deadline on a shared machine and nothing left in the folder; a stream to repair."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from rejeu.state import lease
from rejeu.state import stream as stream_module
from rejeu.watchdog import repair
from tests.watchdog.watched import Watched

settings.register_profile("rejeu", deadline=None, database=None)
settings.load_profile("rejeu")


@pytest.fixture
def stream() -> Iterator[Watched]:
    """A stream that never ran."""
    made = Watched()
    with made.clock.installed(lease, stream_module, repair):
        yield made
