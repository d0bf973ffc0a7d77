"""`python -m rejeu.local.stack.warm_airflow COMPONENT ...`: Airflow's own command, its libraries imported beforehand.

The scheduler forks a process for each task, and the DAG processor one for each parse: what is imported here costs
them nothing, while each would need 3 s of a core for it. Our own package is among it: whoever changes it starts the
stack anew.
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
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.sdk.execution_time.task_runner",
    "rejeu.airflow.loader",
    "rejeu.bigquery.ensure",
    "rejeu.gcp.topics",
    "rejeu.launchers.process",
    "rejeu.state.sqlite",
)

if __name__ == "__main__":
    for module in SHARED:
        importlib.import_module(module)
    sys.exit(main())
