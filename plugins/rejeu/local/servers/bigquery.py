"""bqemulator with the DuckDB extension it needs, in one thread and without time travel.

Run it as `python -m rejeu.local.servers.bigquery` with bqemulator's own arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import fastapi.routing
from bqemulator.cli import main
from bqemulator.domain.events import TableDataChanged
from bqemulator.versioning.snapshots import SnapshotManager
from duckdb_extensions import import_extension

P = ParamSpec("P")
T = TypeVar("T")


async def in_turn(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it here, and not in a thread of FastAPI's pool.

    All of bqemulator shares one DuckDB connection. Of two threads on it one can hold its lock and wait for the GIL,
    which the other one holds and waits for the lock: a health check that meets an insert hangs the server for ever.
    """
    return function(*args, **kwargs)


def tell_only(self: SnapshotManager, project_id: str, dataset_id: str, table_id: str) -> None:
    """Tell of a write, and keep no copy of the table, which bqemulator would for `FOR SYSTEM_TIME AS OF`.

    A streaming job writes twice a second and more: its table would be copied, whole and in memory, as often.
    """
    self._events.publish(TableDataChanged(project_id, dataset_id, table_id))


if __name__ == "__main__":
    snapshots: Any = SnapshotManager
    snapshots.record_change = tell_only
    routing: Any = fastapi.routing
    routing.run_in_threadpool = in_turn
    # From the installed package; bqemulator itself would download it, or die where it cannot.
    import_extension("spatial")
    sys.exit(main(prog_name="bqemulator"))
