"""The one place where clients of Google Cloud are made: the real services, or the emulators the environment names.

`BIGQUERY_EMULATOR_HOST` (with http://), `BIGQUERY_STORAGE_EMULATOR_HOST`, `STORAGE_EMULATOR_HOST` (with http://) and
`PUBSUB_EMULATOR_HOST` and `BIGTABLE_EMULATOR_HOST` each name one; `CLOUD_RUN_EMULATOR_HOST`,
`MONITORING_EMULATOR_HOST`, and with http:// `DATAFLOW_EMULATOR_HOST`, `SECRET_MANAGER_EMULATOR_HOST` and
`VERTEX_AI_EMULATOR_HOST` a server that our tests start. Credentials are the environment's own; an emulator is asked
without any.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

from rejeu.errors import LaunchError, PublishError, RejeuError, SourceError
from rejeu.gcp.errors import making_client

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import bigquery, run_v2
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient
    from google.cloud.bigtable.data import Table
    from google.cloud.monitoring_v3 import MetricServiceClient
    from google.cloud.pubsub_v1 import SubscriberClient
    from google.cloud.storage import Client as StorageClient

PUBSUB: Final = "pubsub.googleapis.com:443"
PUBSUB_SCOPES: Final = ("https://www.googleapis.com/auth/pubsub",)
CLOUD_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
"""The first four as Google's own clients have them; without keepalive nobody notices a connection that died silently,
and by default gRPC looks for a server that is back up to two minutes late."""
RETRY_SECONDS: Final = 30.0
"""Google's clients retry for ten minutes by default, which hides what is wrong for as long."""

CloudRunClient = TypeVar("CloudRunClient", "run_v2.JobsClient", "run_v2.ExecutionsClient", "run_v2.TasksClient")


def bigquery_client(project: str | None) -> bigquery.Client:
    """Raises SourceError where there are no credentials, or no project."""
    from google.cloud import bigquery

    with making_client("BigQuery", SourceError, otherwise="name a project with --project"):
        return bigquery.Client(project=project, credentials=_anonymous("BIGQUERY_EMULATOR_HOST"))


def bigquery_read_client() -> BigQueryReadClient:
    """The Storage Read API, which serves tables as Arrow."""
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    emulator = os.environ.get("BIGQUERY_STORAGE_EMULATOR_HOST")
    if emulator is None:
        return BigQueryReadClient()
    channel = grpc.insecure_channel(emulator, options=CHANNEL_OPTIONS)
    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def query_read_client() -> BigQueryReadClient | None:
    """What reads the result of a query: the emulator serves it over REST only, which is None here."""
    return None if os.environ.get("BIGQUERY_EMULATOR_HOST") else bigquery_read_client()


def bigtable_table(instance: str, name: str, patience_seconds: float) -> Table:
    """A table of `projects/P/instances/I`, which an absent server is waited for so long.

    Raises SourceError where there are no credentials.
    """
    from google.cloud.bigtable.data import BigtableDataClient

    _, project, _, instance_id = instance.split("/")
    # It looks for the emulator by itself, and warns that it found what it was told of.
    warnings.filterwarnings("ignore", "Connecting to Bigtable emulator", RuntimeWarning)
    with making_client("Bigtable", SourceError, otherwise="set BIGTABLE_EMULATOR_HOST"):
        client = BigtableDataClient(project=project)
    return client.get_table(
        instance_id,
        name,
        default_read_rows_operation_timeout=patience_seconds,
        default_mutate_rows_operation_timeout=patience_seconds,
    )


def storage_client(project: str | None) -> StorageClient:
    """Raises SourceError where there are no credentials."""
    from google.cloud.storage import Client

    # Beside its first request it would ask for the bucket's metadata, to adorn traces that nobody records.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    with making_client("Cloud Storage", SourceError):
        return Client(project=project, credentials=_anonymous("STORAGE_EMULATOR_HOST"))


def cloud_run_client(kind: type[CloudRunClient]) -> CloudRunClient:
    """Raises LaunchError where there are no credentials."""

    emulator = os.environ.get("CLOUD_RUN_EMULATOR_HOST")
    if emulator is not None:
        channel = grpc.insecure_channel(emulator, options=CHANNEL_OPTIONS)
        return kind(transport=kind.get_transport_class("grpc")(channel=channel))
    with making_client("Cloud Run", LaunchError):
        return kind()


def vertex_endpoint(region: str) -> str:
    """Where the REST API of Vertex AI is."""
    return os.environ.get("VERTEX_AI_EMULATOR_HOST") or f"https://{region}-aiplatform.googleapis.com"


def vertex_session() -> AuthorizedSession:
    """What asks Vertex AI with the environment's credentials. Raises LaunchError where there are none."""
    return _session("Vertex AI", "VERTEX_AI_EMULATOR_HOST")


def dataflow_endpoint() -> str:
    """Where the REST API of Dataflow is, one for all regions."""
    return os.environ.get("DATAFLOW_EMULATOR_HOST") or "https://dataflow.googleapis.com"


def dataflow_session() -> AuthorizedSession:
    """What asks Dataflow with the environment's credentials. Raises LaunchError where there are none."""
    return _session("Dataflow", "DATAFLOW_EMULATOR_HOST")


def subscriber_client() -> SubscriberClient:
    """The process's one: threads may share it. Raises RejeuError where there are no credentials."""
    return _subscriber_client(os.environ.get("PUBSUB_EMULATOR_HOST"))


def metric_client() -> MetricServiceClient:
    """Cloud Monitoring; the process's one: threads may share it. Raises RejeuError where there are no credentials."""
    return _metric_client(os.environ.get("MONITORING_EMULATOR_HOST"))


def publisher_channel() -> grpc.Channel:
    """A bare channel to Pub/Sub: publishing over it costs a fifth of what the client library does.

    Raises PublishError where there are no credentials.
    """
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator is not None:
        return grpc.insecure_channel(emulator, options=CHANNEL_OPTIONS)
    import google.auth
    from google.auth.transport.grpc import secure_authorized_channel
    from google.auth.transport.requests import Request

    with making_client("Pub/Sub", PublishError, otherwise="set PUBSUB_EMULATOR_HOST"):
        credentials, _ = google.auth.default(scopes=PUBSUB_SCOPES)
    return secure_authorized_channel(credentials, Request(), PUBSUB, options=CHANNEL_OPTIONS)


def finite_retry() -> Retry:
    """BigQuery's own rule of what is worth another try, for half a minute."""
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS)


def secret_manager_endpoint() -> str:
    """Where the REST API of Secret Manager is."""
    return os.environ.get("SECRET_MANAGER_EMULATOR_HOST") or "https://secretmanager.googleapis.com"


def secret_manager_session() -> AuthorizedSession:
    """What asks Secret Manager with the environment's credentials. Raises SourceError where there are none."""
    return _session("Secret Manager", "SECRET_MANAGER_EMULATOR_HOST", SourceError)


def _session(service: str, emulator: str, into: type[RejeuError] = LaunchError) -> AuthorizedSession:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    with making_client(service, into):
        credentials = _anonymous(emulator) or google.auth.default(scopes=CLOUD_SCOPES)[0]
    return AuthorizedSession(credentials)


@cache
def _subscriber_client(emulator: str | None) -> SubscriberClient:
    from google.cloud.pubsub_v1 import SubscriberClient
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    if emulator is not None:
        # By itself it would take 4 MB a pull from an emulator, and a single message may have 10.
        channel = grpc.insecure_channel(emulator, options=CHANNEL_OPTIONS)
        return SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
    with making_client("Pub/Sub", otherwise="set PUBSUB_EMULATOR_HOST"):
        return SubscriberClient()


@cache
def _metric_client(emulator: str | None) -> MetricServiceClient:
    from google.cloud.monitoring_v3 import MetricServiceClient

    if emulator is not None:
        channel = grpc.insecure_channel(emulator, options=CHANNEL_OPTIONS)
        return MetricServiceClient(transport=MetricServiceClient.get_transport_class("grpc")(channel=channel))
    with making_client("Cloud Monitoring"):
        return MetricServiceClient()


def _anonymous(emulator: str) -> Credentials | None:
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials() if os.environ.get(emulator) else None
