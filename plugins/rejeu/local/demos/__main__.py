"""`python -m rejeu.local.demos DAGS DONE`: writes the examples' data, then the file DONE, which says of which day."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rejeu.local.demos.seed import seed_examples
from rejeu.spec.files import load_specs, spec_folders
from rejeu.target import Target


def main() -> int:
    """Write the data; the exit code is 0."""
    dags, done = map(Path, sys.argv[1:])
    day = seed_examples(load_specs(spec_folders(dags)), Target.from_env())
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps({"day": day.isoformat()}), encoding="utf-8")
    partial.replace(done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
