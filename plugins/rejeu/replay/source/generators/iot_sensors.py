"""Weather sensors, made up: the air warms up by day and cools down at night, and now and then a sensor is silent."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from rejeu.replay.source.generators.base import Row
from rejeu.replay.source.generators.endless import MINUTE_US, SECOND_US, Endless, Seconds
from rejeu.spec.columns import Column
from rejeu.spec.sources import GeneratorKind

HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

JITTER: Final = 0.1
"""How late a reading comes at most, as a share of `every`, and a second at most."""
PAUSE_MINUTES: Final = 15
"""In some spans of so many minutes a sensor pauses once."""
PAUSES: Final = 0.25
NULLS: Final = 0.01

FIELDS: Final = ("Airtight", "AtmP", "H2OC", "Temp")
"""Density of the air in g/m³, pressure in hPa, water in it in mmol/mol, temperature in °C."""
KELVIN: Final = 273.15
DRY_AIR: Final = 287.05
"""Its gas constant in J/(kg K)."""


class IotSensors(Endless):
    """So many `sensors`, each read `every` so many seconds."""

    columns = (
        Column("sensor", "STRING"),
        Column("Timestamp", "TIMESTAMP"),
        *(Column(name, "FLOAT64") for name in FIELDS),
    )
    time = "Timestamp"
    reach = 1

    sensors: Annotated[int, Field(gt=0, le=10_000)] = 5
    every: Seconds = 5.0

    def episodes(self, minute: int) -> Iterator[list[Row]]:
        """Each reading is one."""
        chance, begin, every_us = self.chance(minute), minute * MINUTE_US, round(self.every * SECOND_US)
        for number in range(self.sensors):
            phase, pause = every_us * number // self.sensors, self._pause(number, minute)
            warmth = self.chance("sensor", number).uniform(-2, 2)
            for due in range(begin + (phase - begin) % every_us, begin + MINUTE_US, every_us):
                at = due + int(chance.random() * min(JITTER * every_us, SECOND_US))
                if at not in pause:
                    yield [{"sensor": f"sensor-{number + 1}", "Timestamp": at} | _measure(at, warmth, chance)]

    def _pause(self, number: int, minute: int) -> range:
        """The microseconds in which this sensor is silent, of the span that the minute lies in."""
        span = minute // PAUSE_MINUTES
        chance = self.chance("pause", number, span)
        if chance.random() > PAUSES:
            return range(0)
        begin = span * PAUSE_MINUTES + chance.uniform(0, PAUSE_MINUTES - 5)
        return range(int(begin * MINUTE_US), int((begin + chance.uniform(1, 5)) * MINUTE_US))


GENERATOR: Final = GeneratorKind(IotSensors)


def _measure(at: int, warmth: float, chance: random.Random) -> Row:
    """What a sensor says of the air, of which one field is null now and then."""
    swing = math.sin(math.tau * (at - 9 * HOUR_US) / DAY_US)  # coldest at 3 o'clock, warmest at 15
    temperature = 12 + warmth + 6 * swing + chance.gauss(0, 0.15)
    pressure = 1_000 + 8 * math.sin(math.tau * at / (4.3 * DAY_US)) + chance.gauss(0, 0.1)
    humidity = 0.7 - 0.2 * swing + chance.gauss(0, 0.005)
    # The Magnus formula: https://en.wikipedia.org/wiki/Clausius-Clapeyron_relation#Meteorology_and_climatology
    vapour = humidity * 6.112 * math.exp(17.62 * temperature / (243.12 + temperature))
    density = 100 * pressure / (DRY_AIR * (temperature + KELVIN)) * 1_000
    values = (density, pressure, 1_000 * vapour / pressure, temperature)
    row: Row = {name: round(value, 2) for name, value in zip(FIELDS, values, strict=True)}
    return row | {chance.choice(FIELDS): None} if chance.random() < NULLS else row
