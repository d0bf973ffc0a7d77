"""What BigQuery holds at the end of a round: the live view's rows, row by row, and the table of incidents."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from typing import Any, Final

import numpy as np
from google.api_core.exceptions import NotFound

from rejeu.gcp.clients import bigquery_client, finite_retry
from rejeu.target import Target
from rejeu.timeline import format_instant, from_us
from tests.chaos.stack.scene import Stage
from tests.chaos.stack.verdict import Incident, Rows

BEFORE_NOW_SECONDS: Final = 3.0
"""Rows that fell due later than so long ago may still be on their way."""
PATIENCE_SECONDS: Final = 40.0
AGAIN_SECONDS: Final = 2.0
CALL_SECONDS: Final = 20.0


class Truth:
    """Asks BigQuery."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = bigquery_client(target.project)

    def rows(self, stage: Stage) -> Rows:
        """The live view against the rows that were due some seconds ago; what is late is waited for."""
        deadline, count = time.monotonic() + PATIENCE_SECONDS, _due_count(stage)
        while (found := self._compare(stage, count)).missing and time.monotonic() < deadline:
            time.sleep(AGAIN_SECONDS)
        return found

    def rows_now(self, stage: Stage) -> Rows:
        """The same, without waiting."""
        return self._compare(stage, _due_count(stage))

    def incidents(self) -> list[Incident]:
        """All of them, the oldest first; none where nobody made the table yet."""
        try:
            rows = self._query(f"SELECT * FROM `{self._target.incidents}` ORDER BY lost_at")
        except NotFound:
            return []
        return [
            Incident(
                stream=row["stream"],
                lost_at=row["lost_at"].timestamp(),
                detected_at=row["detected_at"].timestamp(),
                relaunched_at=_seconds(row["relaunched_at"]),
                resumed_at=row["resumed_at"].timestamp(),
                cause=row["cause"],
            )
            for row in rows
        ]

    def _compare(self, stage: Stage, count: int) -> Rows:
        border = format_instant(from_us(int(stage.event_us[count])))
        view = self._target.table(stage.spec.view)
        question = f"SELECT number, COUNT(*) AS copies FROM `{view}` WHERE at < TIMESTAMP '{border}' GROUP BY number"
        copies = Counter({int(row["number"]): int(row["copies"]) for row in self._query(question)})
        expected = range(count)
        return Rows(
            due=count,
            missing=sum(number not in copies for number in expected),
            doubled=sum(most - 1 for most in copies.values()),
            strange=sum(number not in expected for number in copies),
        )

    def _query(self, text: str) -> list[Any]:
        retry = finite_retry()
        job = self._client.query(text, timeout=CALL_SECONDS, retry=retry, job_retry=None)
        return list(job.result(timeout=CALL_SECONDS, retry=retry, job_retry=None))


def _due_count(stage: Stage) -> int:
    return int(np.searchsorted(stage.due(), time.time() - BEFORE_NOW_SECONDS))


def _seconds(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()
