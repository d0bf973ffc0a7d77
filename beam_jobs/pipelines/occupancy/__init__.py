"""The pipeline `occupancy`: entries and exits as they come and, in Bigtable, how many are at each site and service now.

This is what it writes; how it does so is in `transform`, which needs Beam.
"""

from __future__ import annotations

from rejeu.spec.columns import Column
from rejeu.spec.pipelines import Pipeline, View

PIPELINE = Pipeline(
    module=f"{__name__}.transform",
    columns=(
        Column("eventTime", "TIMESTAMP"),
        Column("site", "STRING"),
        Column("service", "STRING"),
        Column("device", "STRING"),
        Column("event", "INT64"),
    ),
    views=(
        View(
            "occupancy",
            "SELECT site, service, SUM(event) AS currentOccupancy, MAX(eventTime) AS writeTime "
            "FROM {live} GROUP BY site, service",
        ),
        View(
            "occupancy_over_time",
            "SELECT eventTime, site, service, device, event, "
            "SUM(event) OVER (PARTITION BY site, service ORDER BY eventTime) AS serviceOccupancy, "
            "SUM(event) OVER (PARTITION BY site ORDER BY eventTime) AS siteOccupancy "
            "FROM {live}",
        ),
    ),
    serves_bigtable=True,
)
