"""Which stream has which demo."""

from __future__ import annotations

from typing import Final

from rejeu.errors import StackError
from rejeu.local.demos.bike_stations import BikeStations
from rejeu.local.demos.clickstream import Clicks
from rejeu.local.demos.crypto_rates import CryptoRates
from rejeu.local.demos.demo_data import DemoData
from rejeu.local.demos.iot_sensors import IotSensors
from rejeu.local.demos.site_access import SiteAccess

DEMOS: Final[dict[str, type[DemoData]]] = {
    "crypto_rates": CryptoRates,
    "iot_sensors": IotSensors,
    "bike_stations": BikeStations,
    "site_access": SiteAccess,
    "clickstream": Clicks,
}


def data_of(stream: str) -> type[DemoData]:
    """The demo of this stream. Raises StackError where it has none."""
    if stream not in DEMOS:
        raise StackError(f"there is no demo of {stream!r}: name one of {', '.join(DEMOS)}")
    return DEMOS[stream]
