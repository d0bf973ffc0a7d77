"""How hypothesis runs here, with no deadline on a shared machine and nothing left in the folder; a stream to repair."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from rejeu import live, repair
from rejeu.state import lease
from tests.unit.watched import Watched

settings.register_profile("rejeu", deadline=None, database=None)
settings.load_profile("rejeu")


@pytest.fixture
def stream() -> Iterator[Watched]:
    """A stream that never ran."""
    made = Watched()
    with made.clock.installed(lease, live, repair):
        yield made
