"""What `rejeu new` looks at: a table or files, and never more than their first rows."""

from __future__ import annotations

from collections.abc import Callable

from rejeu.bigquery.columns import from_arrow
from rejeu.new.sample import SAMPLE_ROWS, Sample
from rejeu.replay.source.files import file_schema, first_rows
from rejeu.target import Target


def look(table: str | None, file: str | None, target: Callable[[], Target]) -> Sample:
    """A sample of either. Raises SourceError where it is missing, or cannot be read.

    The target is asked for nothing but the project and the bucket, and not at all where the file is of this machine.
    """
    if table is not None:
        # Here, for it brings Google's clients along: 2 s that a file of this machine must not cost.
        from rejeu.new.table import sample_of_table

        return sample_of_table(target().table(table), target().project)
    if file is None or not file.startswith("gs://"):
        return _of_files(file or "", None)
    return _of_files(file.replace("{bucket}", target().bucket), target().project)


def _of_files(pattern: str, project: str | None) -> Sample:
    rows = first_rows(pattern, project, SAMPLE_ROWS)
    return Sample(from_arrow(file_schema(pattern, project)), rows)
