"""The most memory that a whole replay takes, as the kernel counts it for its process."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.feed import replay_of, write_rows
from benchmarks.processes import replaying
from benchmarks.section import Options, Result, errors, figures_table
from benchmarks.servers import NULL, running

POLL_SECONDS: Final = 0.02
LEGEND: Final = (
    "Peak: the most that was resident at once, including pages of mapped files (VmHWM). Own: the most without files "
    "(RssAnon, read fifty times a second)."
)


@dataclass(frozen=True)
class Run:
    """One replay at full speed; sizes in bytes, `seconds` from the start of its process to the end."""

    rows: int
    file_bytes: int
    peak_bytes: int
    own_bytes: int
    seconds: float


def memory(options: Options) -> Result:
    """Replay a Parquet file of so many rows to the null server."""
    with tempfile.TemporaryDirectory(prefix="rejeu-bench-") as name, errors.status("Memory: writing the file"):
        folder = Path(name)
        file = write_rows(folder / "rows.parquet", options.memory_rows)
        with running(NULL):
            run = _run(folder, file, options.memory_rows)
    made = figures_table(0, "rows", "file MB", "peak MB", "own MB", "seconds")
    sizes = [f"{size / 1e6:,.0f}" for size in (run.file_bytes, run.peak_bytes, run.own_bytes)]
    made.add_row(f"{run.rows:,}", *sizes, f"{run.seconds:.1f}")
    return Result(made, f"Memory. {LEGEND}", asdict(run))


def resident(pid: int) -> dict[str, int]:
    """The process's sizes in bytes, by the kernel's names; empty for a process that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        return {
            name: int(size.split()[0]) * 1024
            for name, _, size in (line.partition(":") for line in lines)
            if size.endswith(" kB")
        }
    return {}


def _run(folder: Path, file: Path, rows: int) -> Run:
    started = time.monotonic()
    peak = own = 0
    with replaying(replay_of(file), folder) as program:
        while program.runs():
            sizes = resident(program.pid)
            peak, own = max(peak, sizes.get("VmHWM", 0)), max(own, sizes.get("RssAnon", 0))
            time.sleep(POLL_SECONDS)
        program.wait(0)
    return Run(rows, file.stat().st_size, peak, own, time.monotonic() - started)
