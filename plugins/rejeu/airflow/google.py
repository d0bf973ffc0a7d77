"""Airflow's hooks of Google: with the credentials of the connection `google_cloud_default`, where there is one.

A fresh Airflow 3 has none. Then the credentials are the environment's (application default credentials): on managed
Airflow those of its service account.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

CONNECTION: Final = "google_cloud_default"


def google_hook(kind: Any) -> Any:
    """A hook of this class."""
    try:
        return kind(gcp_conn_id=CONNECTION)
    except AirflowNotFoundException:
        return _without_connection(kind)(gcp_conn_id=CONNECTION)


@cache
def _without_connection(kind: Any) -> Any:
    """The same class with a connection that says nothing: its hooks then ask the environment."""

    def get_connection(cls: Any, conn_id: str) -> Connection:
        return Connection(conn_id=conn_id, conn_type="google_cloud_platform")

    return type(kind.__name__, (kind,), {"get_connection": classmethod(get_connection)})
