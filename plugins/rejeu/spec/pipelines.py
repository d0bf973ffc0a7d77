"""What each streaming pipeline writes: its columns, known without importing Beam, so that tables can be made first.

The pipelines themselves are in `beam_jobs/pipelines/`, one module a pipeline, under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rejeu.spec.columns import PANE_COLUMNS, Column


@dataclass(frozen=True)
class Windows:
    """Of a pipeline that aggregates: the columns by which its rows are told apart and compared.

    An open window's row is written again and again, each time with what it holds by then. Of two rows for one key and
    window the one that counts more records is the newer one.
    """

    key: tuple[str, ...]
    start: str
    end: str
    count: str
    seconds: float
    """How long a window lasts where the spec does not say."""


@dataclass(frozen=True)
class View:
    """A question that every stream of a pipeline is asked: a view called `<streaming table>_<name>`.

    `{live}` in its query stands for the stream's live view, in full and quoted.
    """

    name: str
    query: str


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's name, its module, and its columns; None where it writes the source's columns as they are."""

    name: str
    columns: tuple[Column, ...] | None
    windows: Windows | None = None
    views: tuple[View, ...] = ()
    serves_bigtable: bool = False
    """Whether it also keeps rows in Bigtable, where the target has one."""

    @property
    def module(self) -> str:
        return f"beam_jobs.pipelines.{self.name}"


PIPELINES: Final = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline("passthrough", columns=None),
        Pipeline(
            "rates",
            columns=(
                Column("timestamp", "TIMESTAMP"),
                Column("request", "STRING"),
                Column("symbol", "STRING"),
                Column("rate", "FLOAT64"),
                Column("date_str", "STRING"),
            ),
        ),
        Pipeline(
            "sensor_means",
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
            windows=Windows(key=("sensor",), start="Timestamp", end="window_end", count="readings", seconds=15.0),
        ),
        Pipeline(
            "stations",
            columns=(
                Column("observed_at", "TIMESTAMP"),
                Column("recordid", "STRING"),
                Column("record_timestamp", "TIMESTAMP"),
                Column("libelle", "STRING"),
                Column("nom", "STRING"),
                Column("adresse", "STRING"),
                Column("commune", "STRING"),
                Column("etat", "STRING"),
                Column("etatconnexion", "STRING"),
                Column("type", "STRING"),
                Column("nbvelosdispo", "INT64"),
                Column("nbplacesdispo", "INT64"),
                Column("latitude", "FLOAT64"),
                Column("longitude", "FLOAT64"),
                Column("datemiseajour", "TIMESTAMP"),
            ),
            views=(
                View(
                    "newest",
                    "SELECT * FROM {live} "
                    "QUALIFY ROW_NUMBER() OVER (PARTITION BY libelle ORDER BY observed_at DESC) = 1",
                ),
            ),
        ),
        Pipeline(
            "occupancy",
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
        ),
        Pipeline(
            "clicks",
            columns=(
                Column("window_start", "TIMESTAMP"),
                Column("user_pseudo_id", "STRING"),
                Column("event_count", "INT64"),
                *PANE_COLUMNS,
            ),
            windows=Windows(
                key=("user_pseudo_id",), start="window_start", end="window_end", count="event_count", seconds=60.0
            ),
            views=(
                View(
                    "most_active",
                    "SELECT user_pseudo_id, SUM(event_count) AS events FROM {live} "
                    "WHERE window_start > (SELECT TIMESTAMP_SUB(MAX(window_start), INTERVAL 10 MINUTE) FROM {live}) "
                    "GROUP BY user_pseudo_id ORDER BY events DESC, user_pseudo_id LIMIT 20",
                ),
            ),
        ),
    )
}
