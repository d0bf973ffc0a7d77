"""Which stream has which demo."""

from __future__ import annotations

from datetime import date
from typing import Final

from rejeu.errors import StackError
from rejeu.local.demos.bike_stations import BikeStations
from rejeu.local.demos.clickstream import Clicks
from rejeu.local.demos.crypto_rates import CryptoRates
from rejeu.local.demos.iot_sensors import IotSensors
from rejeu.local.demos.site_access import SiteAccess
from rejeu.local.demos.story import Story
from rejeu.spec import StreamSpec
from rejeu.target import Target

STORIES: Final[dict[str, type[Story]]] = {
    "crypto_rates": CryptoRates,
    "iot_sensors": IotSensors,
    "bike_stations": BikeStations,
    "site_access": SiteAccess,
    "clickstream": Clicks,
}


def story_of(spec: StreamSpec, target: Target, day: date) -> Story:
    """The demo of this stream. Raises StackError where it has none."""
    if spec.stream not in STORIES:
        raise StackError(f"there is no demo of {spec.stream!r}: name one of {', '.join(STORIES)}")
    return STORIES[spec.stream](spec, target, day)
