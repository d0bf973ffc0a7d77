"""What Airflow finds at the root of plugins/ where that folder is mounted; the wheel has an entry point instead."""

from __future__ import annotations

from rejeu.airflow.plugin import RejeuPlugin

__all__ = ["RejeuPlugin"]
