"""The waits of the DAGs, in the triggerer: each is one loop over a question, level-based, without a thread of its own.

On managed Airflow the triggerer sees neither DAGs nor plugins: this package must be installed there, as a wheel.
Airflow stores each class under this package's name, so that its modules may change.
"""

from rejeu.airflow.triggers.jobs import AwaitedJob, DrainedJob, DrainTrigger, JobTrigger
from rejeu.airflow.triggers.load import AwaitedLoad, BigQueryJobTrigger, LoadJobTrigger, QueriedJob
from rejeu.airflow.triggers.watching import ReturnTrigger, SilenceTrigger

__all__ = [
    "AwaitedJob",
    "AwaitedLoad",
    "BigQueryJobTrigger",
    "DrainTrigger",
    "DrainedJob",
    "JobTrigger",
    "LoadJobTrigger",
    "QueriedJob",
    "ReturnTrigger",
    "SilenceTrigger",
]
