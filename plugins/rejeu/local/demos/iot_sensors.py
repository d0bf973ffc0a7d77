"""The demo of `iot_sensors`: several sensors, of which SQL computes the means of each window anew."""

from __future__ import annotations

from rejeu.local.demos.simulated import SimulatedData
from rejeu.spec.columns import Column


class IotSensors(SimulatedData):
    """The mean of each field, by sensor and quarter of a minute."""

    becomes = "Readings become a mean for each sensor and window; an open window is written again with each early pane."
    truth = """
        SELECT
          strftime(time_bucket(INTERVAL 15 SECONDS, CAST(json ->> '$.Timestamp' AS TIMESTAMPTZ)), '%Y-%m-%dT%H:%M:%SZ')
            AS "Timestamp",
          json ->> '$.sensor' AS sensor,
          avg(CAST(json ->> '$.Airtight' AS DOUBLE)) AS "Airtight",
          avg(CAST(json ->> '$.AtmP' AS DOUBLE)) AS "AtmP",
          avg(CAST(json ->> '$.H2OC' AS DOUBLE)) AS "H2OC",
          avg(CAST(json ->> '$.Temp' AS DOUBLE)) AS "Temp",
          count(*) AS readings
        FROM lines
        GROUP BY 1, 2
    """
    key = (Column("Timestamp", "TIMESTAMP"), Column("sensor", "STRING"))
    values = (
        *(Column(name, "FLOAT64") for name in ("Airtight", "AtmP", "H2OC", "Temp")),
        Column("readings", "INT64"),
    )
