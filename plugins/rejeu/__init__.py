"""Rejeu turns any timestamped BigQuery table into a live, self-healing stream, orchestrated from Airflow."""

__version__ = "0.1.0"
