"""Which probes a spec may name, and where they are found; what one says of itself is `rejeu.ports.ProbeKind`."""

from __future__ import annotations

from typing import Final

from rejeu.ports import ProbeKind
from rejeu.registry import Registry

PROBES: Final = Registry("probe", ProbeKind, "rejeu.watchdog.probes")
