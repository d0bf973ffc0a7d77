"""The kinds of DAG that a stream may have, in the order in which people read them."""

from __future__ import annotations

from typing import Final

from rejeu.airflow.dags.batch import BATCH
from rejeu.airflow.dags.kind import DagKind
from rejeu.airflow.dags.live import LIVE
from rejeu.airflow.dags.reconcile import RECONCILE
from rejeu.airflow.dags.stop import STOP
from rejeu.airflow.dags.watchdog import WATCHDOG

KINDS: Final[tuple[DagKind, ...]] = (BATCH, LIVE, WATCHDOG, RECONCILE, STOP)
