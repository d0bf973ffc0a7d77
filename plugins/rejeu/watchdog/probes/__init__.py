"""What tells whether a topic is alive: `heartbeat` knows what is due, `tap` what arrived, `metric` what was counted."""

from typing import Final

TAP: Final = "tap"
METRIC: Final = "metric"
