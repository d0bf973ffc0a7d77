"""`python -m benchmarks.beams_own`: messages to a table by Beam's own read and write, on the local job's runner."""

from __future__ import annotations

import argparse
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.io.gcp.bigquery import BigQueryDisposition, WriteToBigQuery
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner


def main() -> None:
    """Run until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beams_own", description=__doc__)
    parser.add_argument("--subscription", required=True, help="projects/P/subscriptions/S")
    parser.add_argument("--table", required=True, help="project.dataset.table, which exists")
    arguments = parser.parse_args()
    project, _, table = arguments.table.partition(".")
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(["--streaming"]))
    (
        pipeline
        | "read" >> beam.io.ReadFromPubSub(subscription=arguments.subscription)
        | "decode" >> beam.Map(_decode)
        | "write"
        >> WriteToBigQuery(
            f"{project}:{table}",
            method=WriteToBigQuery.Method.STREAMING_INSERTS,
            create_disposition=BigQueryDisposition.CREATE_NEVER,
        )
    )
    pipeline.run().wait_until_finish()


def _decode(body: bytes) -> Any:
    return msgspec.json.decode(body)


if __name__ == "__main__":
    main()
