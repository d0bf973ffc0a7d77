"""A home for Airflow, which makes one as soon as it is imported."""

from __future__ import annotations

import os
import tempfile

_HOME = tempfile.TemporaryDirectory(prefix="rejeu-airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name
