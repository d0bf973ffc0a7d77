"""The wait for a job of BigQuery's, in the triggerer, where neither DAGs nor plugins are: flat arguments, no threads.

Nothing is checked while it is made: an error there would end the whole triggerer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rejeu.gcp.clients import bigquery_client

if TYPE_CHECKING:
    from google.cloud.bigquery.job import _AsyncJob

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
AWAY_SECONDS = 10.0
"""How long to wait before BigQuery is asked again where it gave no answer."""
TIMEOUT_SECONDS: Final = 60.0


class BigQueryJobTrigger(BaseTrigger):
    """Fires once when a job has ended, well or not; its event says why not."""

    def __init__(self, project: str, location: str, job_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.project, self.location, self.job_id = project, location, job_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"project": self.project, "location": self.location, "job_id": self.job_id}
        return f"{__name__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from google.api_core.exceptions import NotFound

        while True:
            try:
                job = await asyncio.to_thread(self._find)
            except NotFound as error:
                yield TriggerEvent({"job_id": self.job_id, "error": str(error)})
                return
            except Exception as error:  # the job goes on whether or not BigQuery answers just now
                log.warning("%s: cannot be looked at: %s: %s", self.job_id, type(error).__name__, error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if job.state == "DONE":
                yield TriggerEvent({"job_id": self.job_id, "error": why_failed(job)})
                return
            await asyncio.sleep(POLL_SECONDS)

    def _find(self) -> _AsyncJob:
        job: _AsyncJob = bigquery_client(self.project).get_job(
            self.job_id, location=self.location, timeout=TIMEOUT_SECONDS
        )
        return job


def why_failed(job: _AsyncJob) -> str:
    """What BigQuery says of a job that failed, all of it; empty where it did not fail."""
    if job.error_result is None:
        return ""
    told = [str(each.get("message") or each.get("reason")) for each in [job.error_result, *(job.errors or [])]]
    return "; ".join(dict.fromkeys(told))
