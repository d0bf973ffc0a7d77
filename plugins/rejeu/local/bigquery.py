"""bqemulator with the DuckDB extension it needs, in one thread: `python -m rejeu.local.bigquery` and its arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import fastapi.routing
from bqemulator.cli import main
from duckdb_extensions import import_extension

P = ParamSpec("P")
T = TypeVar("T")


async def in_turn(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it here, and not in a thread of FastAPI's pool.

    All of bqemulator shares one DuckDB connection. Of two threads on it one can hold its lock and wait for the GIL,
    which the other one holds and waits for the lock: a health check that meets an insert hangs the server for ever.
    """
    return function(*args, **kwargs)


if __name__ == "__main__":
    routing: Any = fastapi.routing
    routing.run_in_threadpool = in_turn
    # From the installed package; bqemulator itself would download it, or die where it cannot.
    import_extension("spatial")
    sys.exit(main(prog_name="bqemulator"))
