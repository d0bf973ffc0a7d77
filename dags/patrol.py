"""The DAG that looks at every stream once a minute, in a file of its own: no spec can break it."""

from __future__ import annotations

from rejeu.airflow.loader import load_patrol

for dag in load_patrol(__file__):
    globals()[dag.dag_id] = dag
