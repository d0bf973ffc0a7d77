"""`python -m rejeu.local.demos SPEC DONE`: writes the data of a demo, then the file DONE, which says of which day."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rejeu.local.demos.registry import data_of
from rejeu.spec.files import read_spec
from rejeu.target import Target


def due_day(now: datetime) -> date:
    """The day that the batch DAG's newest scheduled run is about: schedule `0 1 * * *`, the day before."""
    return (now - timedelta(hours=25)).date()


def main() -> int:
    """Write the data; the exit code is 0."""
    spec, done = read_spec(Path(sys.argv[1])), Path(sys.argv[2])
    day = due_day(datetime.now(UTC))
    data_of(spec.stream)(spec, Target.from_env(), day).write()
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps({"day": day.isoformat()}), encoding="utf-8")
    partial.replace(done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
