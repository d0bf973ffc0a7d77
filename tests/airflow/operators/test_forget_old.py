"""What a stream's jobs left as files goes when it is old, and keeps nobody from their work where it cannot go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rejeu.airflow.operators import base
from rejeu.airflow.operators.live import BeginWatch
from rejeu.spec.model import StreamSpec
from rejeu.target import KEPT, Left
from tests.fakes.storage_server import BUCKET, FIRST_GENERATION, Object, StorageServer

FORGET_OLD = base.StreamOperator.forget_old
"""The real one; tests of tasks have another in its place."""


@pytest.fixture
def task(spec: StreamSpec, monkeypatch: pytest.MonkeyPatch) -> base.StreamOperator:
    monkeypatch.setenv("REJEU_BUCKET", BUCKET)
    return BeginWatch(task_id="begin_watch", spec=spec)


def test_only_the_streams_own_old_files_go(task: base.StreamOperator, cloud: StorageServer) -> None:
    now = datetime.now(UTC)
    old, young = now - KEPT - timedelta(hours=1), now - KEPT + timedelta(hours=1)
    places = {
        "rejeu/staging/crypto_rates/2026-11-01/a/rows-0.ndjson": old,
        "rejeu/staging/crypto_rates/2026-11-01/b/rows-0.ndjson": young,
        "rejeu/staging/crypto_rates_2/2026-11-01/a/rows-0.ndjson": old,
        "rejeu/reconciliations/crypto_rates/a.json": old,
        "crypto_rates/dt=2026-11-01/raw.ndjson": old,
    }
    for name, written in places.items():
        cloud.objects[BUCKET][name] = Object(b"x", FIRST_GENERATION, 0.0, written)
    FORGET_OLD(task, Left.STAGING)
    assert places.keys() - cloud.objects[BUCKET].keys() == {"rejeu/staging/crypto_rates/2026-11-01/a/rows-0.ndjson"}
    FORGET_OLD(task, Left.RECONCILIATIONS)
    assert "rejeu/reconciliations/crypto_rates/a.json" not in cloud.objects[BUCKET]


def test_a_bucket_that_refuses_keeps_no_task_from_its_work(task: base.StreamOperator, cloud: StorageServer) -> None:
    cloud.faults = iter([403])
    FORGET_OLD(task, Left.STAGING)
