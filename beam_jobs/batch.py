"""`python -m beam_jobs.batch`: raw files to prepared files for one load job, by the stream's own pipeline.

Our flags come first (see --help), then Beam's own options behind `--`, such as `-- --runner=DirectRunner`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.program import check_column, is_direct, main, read_arguments, transform_of
from beam_jobs.transforms.counts import counted_here
from beam_jobs.transforms.files import ReadLines, WriteLines
from beam_jobs.transforms.validate import Validate
from rejeu.errors import SourceError
from rejeu.jobs.request import BatchJobRequest
from rejeu.spec.pipelines import PIPELINES


def run(argv: Sequence[str]) -> None:
    """Prepare the files and print what was done. Raises SourceError where there are none."""
    request, options = read_arguments(BatchJobRequest, argv)
    transform_of(request)
    columns = PIPELINES[request.pipeline].columns
    if columns is not None:
        check_column("--event-time", request.event_time, columns)
    FileSystems.set_options(options)
    paths = find("--files", request.files)
    if not paths:
        remedy = "check that the day has files, and `batch.files` of the spec; `rejeu seed` writes an example stream's"
        raise SourceError(f"no file matches --files {request.files}: {remedy}")
    clear(request.output)
    build(request, paths, options).run().wait_until_finish()
    did = f": {counted_here(request.stream)}" if is_direct(options) else ""
    print(f"rejeu: {request.stream}: {len(paths)} files prepared{did}", flush=True)


def build(request: BatchJobRequest, paths: Sequence[str], options: PipelineOptions) -> beam.Pipeline:
    """The whole pipeline: read lines, prepare, write rows and dead letters."""
    # Beam's DirectRunner, by its full name: under the short one it tries to download another runner first.
    pipeline = beam.Pipeline(runner=FnApiRunner() if is_direct(options) else None, options=options)
    rows, letters = (
        pipeline | "files" >> beam.Create(paths) | "read" >> ReadLines() | request.pipeline >> transform_of(request)
    )
    columns = PIPELINES[request.pipeline].columns
    if columns is not None:
        rows, invalid = rows | "validate" >> Validate(request.stream, columns)
        letters = (letters, invalid) | "all dead letters" >> beam.Flatten()
    rows | "write rows" >> WriteLines(request.stream, FileSystems.join(request.output, "rows"), "out")
    letters | "write dead letters" >> WriteLines(request.stream, FileSystems.join(request.output, "dead"), "dead")
    return pipeline


def clear(output: str) -> None:
    """Remove the files of an earlier run: if they were more, the last ones would be loaded again."""
    old = [path for kind in ("rows", "dead") for path in find("--output", f"{output.rstrip('/')}/{kind}-*.ndjson")]
    if old:
        FileSystems.delete(old)


def find(flag: str, pattern: str) -> list[str]:
    """The paths that match. Raises SourceError where the bucket is missing or may not be listed."""
    try:
        found = FileSystems.match([pattern])
    except BeamIOError as error:
        raise SourceError(f"{flag} is {pattern}: it cannot be listed ({_cause(error)}); check the bucket") from None
    return [file.path for file in found[0].metadata_list]


def _cause(error: Exception) -> Exception:
    """The error inside Beam's wrappers, of which each file system adds one."""
    while isinstance(error, BeamIOError) and error.exception_details:
        error = next(iter(error.exception_details.values()))
    return error


if __name__ == "__main__":
    sys.exit(main(run))
