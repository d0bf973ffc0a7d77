"""bqemulator with the DuckDB extension it needs: `python -m rejeu.local.bigquery` and bqemulator's own arguments."""

from __future__ import annotations

import sys

from bqemulator.cli import main
from duckdb_extensions import import_extension

if __name__ == "__main__":
    # From the installed package; bqemulator itself would download it, or die where it cannot.
    import_extension("spatial")
    sys.exit(main(prog_name="bqemulator"))
