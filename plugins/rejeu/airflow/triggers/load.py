"""The waits for BigQuery's jobs: ours, which load files or put rows in their place, and somebody else's load job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from airflow.triggers.base import TriggerEvent
from pydantic import BaseModel

from rejeu.airflow.triggers.base import StoredTrigger
from rejeu.gcp.clients import bigquery_client

if TYPE_CHECKING:
    from google.cloud.bigquery.job import _AsyncJob

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
AWAY_SECONDS = 10.0
"""How long to wait before BigQuery is asked again where it gave no answer."""
TIMEOUT_SECONDS: Final = 60.0


class QueriedJob(BaseModel):
    """A load job, or a query."""

    project: str
    location: str
    job_id: str


class BigQueryJobTrigger(StoredTrigger[QueriedJob]):
    """Fires once when a job has ended, well or not; its event says why not."""

    model = QueriedJob

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from google.api_core.exceptions import NotFound

        job_id = self.arguments.job_id
        while True:
            try:
                job = await asyncio.to_thread(self._find)
            except NotFound as error:
                yield TriggerEvent({"job_id": job_id, "error": str(error)})
                return
            except Exception as error:  # the job goes on whether or not BigQuery answers just now
                log.warning("%s: cannot be looked at: %s: %s", job_id, type(error).__name__, error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if job.state == "DONE":
                yield TriggerEvent({"job_id": job_id, "error": why_failed(job)})
                return
            await asyncio.sleep(POLL_SECONDS)

    def _find(self) -> _AsyncJob:
        job_id, location = self.arguments.job_id, self.arguments.location
        client = bigquery_client(self.arguments.project)
        job: _AsyncJob = client.get_job(job_id, location=location, timeout=TIMEOUT_SECONDS)
        return job


def why_failed(job: _AsyncJob) -> str:
    """What BigQuery says of a job that failed, all of it; empty where it did not fail."""
    if job.error_result is None:
        return ""
    told = [str(each.get("message") or each.get("reason")) for each in [job.error_result, *(job.errors or [])]]
    return "; ".join(dict.fromkeys(told))


class AwaitedLoad(BaseModel):
    """The partition that somebody's load job is to fill."""

    project: str
    table: str
    event_time: str
    partition: str
    poll_seconds: float


class LoadJobTrigger(StoredTrigger[AwaitedLoad]):
    """Fires once when a load job, whoever started it, has filled a partition of a table."""

    model = AwaitedLoad

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from rejeu.bigquery.load_jobs import LoadJobSearch

        search = LoadJobSearch(**self.arguments.model_dump(exclude={"poll_seconds"}))
        while (job_id := await asyncio.to_thread(search.look)) is None:
            await asyncio.sleep(self.arguments.poll_seconds)
        yield TriggerEvent({"job_id": job_id})
