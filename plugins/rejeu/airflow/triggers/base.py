"""What every trigger of ours has: the path under which Airflow finds its class, and a wait without a triggerer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from airflow.triggers.base import BaseTrigger

STORED_PATH: Final = "rejeu.airflow.triggers"
"""Airflow's database has it: it stays, wherever the classes stand."""


def class_path(trigger: BaseTrigger) -> str:
    """Where the triggerer finds the trigger's class."""
    return f"{STORED_PATH}.{type(trigger).__qualname__}"


async def first_event(trigger: BaseTrigger, limit: timedelta) -> Any:
    """The payload of the trigger's first event, waited for right here. Raises TimeoutError."""
    event = await asyncio.wait_for(anext(aiter(trigger.run())), limit.total_seconds())
    return event.payload
