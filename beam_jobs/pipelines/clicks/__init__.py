"""The pipeline `clicks`: how many events each user has caused in each window.

This is what it writes; how it does so is in `transform`, which needs Beam.
"""

from __future__ import annotations

from rejeu.spec.columns import PANE_COLUMNS, Column
from rejeu.spec.pipelines import Pipeline, View, Windows

WINDOWS = Windows(key=("user_pseudo_id",), start="window_start", end="window_end", count="event_count", seconds=60.0)

PIPELINE = Pipeline(
    module=f"{__name__}.transform",
    columns=(
        Column("window_start", "TIMESTAMP"),
        Column("user_pseudo_id", "STRING"),
        Column("event_count", "INT64"),
        *PANE_COLUMNS,
    ),
    windows=WINDOWS,
    views=(
        View(
            "most_active",
            "SELECT user_pseudo_id, SUM(event_count) AS events FROM {live} "
            "WHERE window_start > (SELECT TIMESTAMP_SUB(MAX(window_start), INTERVAL 10 MINUTE) FROM {live}) "
            "GROUP BY user_pseudo_id ORDER BY events DESC, user_pseudo_id LIMIT 20",
        ),
    ),
)
