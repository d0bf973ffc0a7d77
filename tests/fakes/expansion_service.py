"""Beam's expansion service for BigQuery's Storage Write API, over real gRPC, without Java.

It expands to steps in Python that write to a list and refuse what they are told to; a pipeline can be described with
it, and run. Its configuration has the fields of Beam's own
(org.apache.beam.sdk.io.gcp.bigquery.providers.BigQueryWriteConfiguration).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import apache_beam as beam
import grpc
from apache_beam.coders import RowCoder
from apache_beam.io.gcp.bigquery import StorageWriteToBigQuery
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_expansion_api_pb2, beam_expansion_api_pb2_grpc, external_transforms_pb2
from apache_beam.runners.portability.expansion_service import ExpansionServiceServicer
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import named_tuple_to_schema

GRADLE_TARGET = "sdks:java:io:google-cloud-platform:expansion-service:build"
"""By which Beam knows the service, in its option --beam_services."""
WRITTEN: list[tuple[str, dict[str, Any]]] = []
"""Table and row of all that was written."""
CONFIGURED: list[dict[str, Any]] = []
"""What each expansion was asked for, beyond the defaults."""


class ErrorHandling(NamedTuple):
    output: str


class Configuration(NamedTuple):
    table: str
    create_disposition: str | None
    write_disposition: str | None
    triggering_frequency_seconds: int | None
    use_at_least_once_semantics: bool | None
    auto_sharding: bool | None
    num_streams: int | None
    error_handling: ErrorHandling | None
    use_cdc_writes: bool | None
    primary_key: Sequence[str] | None
    clustering_fields: Sequence[str] | None
    big_lake_configuration: Mapping[str, str] | None


class FakeWrite(beam.PTransform):
    """Writes rows, and refuses those with the word `refuse` in their row id.

    The shuffles see to it that rows come and go as their coders make them, as between two languages.
    """

    def __init__(self, payload: external_transforms_pb2.SchemaTransformPayload) -> None:
        super().__init__()
        configuration = RowCoder(payload.configuration_schema).decode(payload.configuration_row)._asdict()
        CONFIGURED.append({field: value for field, value in configuration.items() if value})
        self.table = configuration["table"]

    def expand(self, rows: beam.PCollection[Any]) -> dict[str, beam.PCollection[Any]]:
        failed = RowTypeConstraint.from_fields([("failed_row", rows.element_type), ("error_message", str)])
        arrived = rows | "there" >> beam.Reshuffle()
        refused = (
            arrived | "write" >> beam.FlatMap(write, self.table).with_output_types(failed) | "back" >> beam.Reshuffle()
        )
        return {"post_write": arrived, StorageWriteToBigQuery.FAILED_ROWS_WITH_ERRORS: refused}


def write(row: Any, table: str) -> Iterator[beam.Row]:
    if "refuse" in row.row_id:
        yield beam.Row(failed_row=row, error_message="BigQuery does not like it")
    else:
        WRITTEN.append((table, row._asdict()))


class FakeExpansionService(ExpansionServiceServicer):
    """Knows one transform."""

    def DiscoverSchemaTransform(self, request: Any, context: Any) -> Any:
        config = beam_expansion_api_pb2.SchemaTransformConfig(config_schema=named_tuple_to_schema(Configuration))
        return beam_expansion_api_pb2.DiscoverSchemaTransformResponse(
            schema_transform_configs={StorageWriteToBigQuery.IDENTIFIER: config}
        )


beam.PTransform.register_urn(
    common_urns.schematransform_based_expand.urn,
    external_transforms_pb2.SchemaTransformPayload,
    lambda proto, payload, context: FakeWrite(payload),
)


@contextmanager
def expansion_service() -> Iterator[str]:
    """The service; yields its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    beam_expansion_api_pb2_grpc.add_ExpansionServiceServicer_to_server(FakeExpansionService(), server)
    port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None)
