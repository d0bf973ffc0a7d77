"""What an installation may be without: which extra of ours brings a library, and the sentence that says so."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from rejeu.errors import RejeuError

LOCAL: Final = "local"
"""All that one machine needs: Airflow, Beam, the replay, and the servers that stand in for Google's."""
LIBRARIES: Final = {
    LOCAL: ("airflow", "apache_beam", "bqemulator", "duckdb", "gcp_storage_emulator", "psycopg2", "supervisor"),
    "launchers": ("docker", "google.cloud.aiplatform", "google.cloud.run", "google.cloud.run_v2", "kubernetes"),
    "replay": (
        *("google.api_core", "google.auth", "google.cloud.bigquery", "google.cloud.bigquery_storage"),
        *(
            "google.cloud.storage",
            "google.protobuf",
            "grpc",
            "msgspec",
            "numpy",
            "orjson",
            "pyarrow",
            "requests",
            "tenacity",
        ),
    ),
}
"""By the names that are imported; what stands nowhere here comes with `local`, if with any."""
OURS: Final = ("rejeu", "beam_jobs", "spark_jobs")


def missing(error: ModuleNotFoundError) -> RejeuError | None:
    """The sentence for a library that is not installed; None where a module of ours is not there, which is a fault."""
    name = error.name or ""
    if not name or name.partition(".")[0] in OURS:
        return None
    fitting = (extra for extra, names in LIBRARIES.items() if name in names)
    return _not_installed(name, next(fitting, LOCAL))


def require_local() -> None:
    """Raises RejeuError where a library that the local stack runs on is not installed."""
    for name in (*LIBRARIES[LOCAL], *LIBRARIES["replay"]):
        if find_spec(name.partition(".")[0]) is None:
            raise _not_installed(name, LOCAL)


def _not_installed(name: str, extra: str) -> RejeuError:
    return RejeuError(f"{name} is not installed, and this needs it: run `pip install 'rejeu[{extra}]'`")
