"""The DAGs of every stream: read the specs, build, register. A broken spec becomes a DAG that says so."""

from __future__ import annotations

from rejeu.airflow.loader import load_dags

for dag in load_dags(__file__):
    globals()[dag.dag_id] = dag
