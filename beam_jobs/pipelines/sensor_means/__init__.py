"""The pipeline `sensor_means`: the mean of each field of each sensor in each window.

This is what it writes; how it does so is in `transform`, which needs Beam.
"""

from __future__ import annotations

from rejeu.spec.columns import PANE_COLUMNS, Column
from rejeu.spec.pipelines import Pipeline, Windows

WINDOWS = Windows(key=("sensor",), start="Timestamp", end="window_end", count="readings", seconds=15.0)

PIPELINE = Pipeline(
    module=f"{__name__}.transform",
    columns=(
        Column("Timestamp", "TIMESTAMP"),
        Column("sensor", "STRING"),
        Column("Airtight", "FLOAT64"),
        Column("AtmP", "FLOAT64"),
        Column("H2OC", "FLOAT64"),
        Column("Temp", "FLOAT64"),
        Column("readings", "INT64"),
        *PANE_COLUMNS,
    ),
    windows=WINDOWS,
)
