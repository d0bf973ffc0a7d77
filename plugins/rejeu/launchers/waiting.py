"""How every launcher waits for what it cannot be told of: it looks again, less and less often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

FIRST_POLL_SECONDS: Final = 0.1
LAST_POLL_SECONDS: Final = 2.0

Seen = TypeVar("Seen")


def look_until(look: Callable[[], Seen | None], seconds: float) -> Seen | None:
    """The first thing seen, looking less and less often; None where nothing came in so many seconds."""
    end = time.monotonic() + seconds
    pause = FIRST_POLL_SECONDS
    while (seen := look()) is None and time.monotonic() < end:
        time.sleep(pause)
        pause = min(2 * pause, LAST_POLL_SECONDS)
    return seen
