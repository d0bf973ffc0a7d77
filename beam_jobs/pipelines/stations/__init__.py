"""The pipeline `stations`: records of the V'lille open-data API, one row for each bike station and observation.

This is what it writes; how it does so is in `transform`, which needs Beam.
"""

from __future__ import annotations

from rejeu.spec.columns import Column
from rejeu.spec.pipelines import Pipeline, View

PIPELINE = Pipeline(
    module=f"{__name__}.transform",
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
            "SELECT * FROM {live} QUALIFY ROW_NUMBER() OVER (PARTITION BY libelle ORDER BY observed_at DESC) = 1",
        ),
    ),
    spark="spark_jobs.stations",
)
