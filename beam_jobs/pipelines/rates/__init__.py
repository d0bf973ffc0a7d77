"""The pipeline `rates`: Band oracle requests exploded to one row a symbol.

This is what it writes; how it does so is in `transform`, which needs Beam.
"""

from __future__ import annotations

from rejeu.spec.columns import Column
from rejeu.spec.pipelines import Pipeline

PIPELINE = Pipeline(
    module=f"{__name__}.transform",
    columns=(
        Column("timestamp", "TIMESTAMP"),
        Column("request", "STRING"),
        Column("symbol", "STRING"),
        Column("rate", "FLOAT64"),
        Column("date_str", "STRING"),
    ),
)
