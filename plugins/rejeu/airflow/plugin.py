"""The plugin that Airflow shows: it makes the operators' and triggers' package known, and nothing else."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class RejeuPlugin(AirflowPlugin):
    """Named so that `airflow plugins` shows which Rejeu a deployment runs."""

    name = "rejeu"
