"""`python -m rejeu.local.warm_airflow COMPONENT ...`: Airflow's own command, with Google's clients imported beforehand.

The scheduler forks a process for each task, and the DAG processor one for each parse: what is imported here costs
them nothing, while each would need 3 s of a core for it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

from airflow.__main__ import main

SHARED: Final = (
    "airflow.providers.google.cloud.hooks.pubsub",
    "airflow.providers.google.cloud.operators.bigquery",
    "airflow.providers.standard.operators.python",
    "airflow.sdk.execution_time.task_runner",
)

if __name__ == "__main__":
    for module in SHARED:
        importlib.import_module(module)
    sys.exit(main())
