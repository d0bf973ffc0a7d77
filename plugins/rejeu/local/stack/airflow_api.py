"""A client of Airflow's REST API, as far as the demo and the tests need it: trigger a DAG, and follow its runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import httpx

from rejeu.errors import StackError

ENDED: Final = frozenset({"success", "failed"})
POLL_SECONDS: Final = 0.5
TRIES: Final = 10


class AirflowApi:
    """Logs in once; every call raises StackError where Airflow refuses it."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        token = self._call("POST", "/auth/token", json={"username": user, "password": password})["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def trigger(self, dag_id: str, **params: Any) -> str:
        """Start a run now; returns its id."""
        body = {"logical_date": None, "conf": params}
        run = self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        return str(run["dag_run_id"])

    def dag_ids(self) -> list[str]:
        """Every DAG that Airflow knows and finds in its folder."""
        return [dag["dag_id"] for dag in self._call("GET", "/api/v2/dags", params={"limit": 1000})["dags"]]

    def documentation(self, dag_id: str) -> str:
        """What the DAG's page says of it, as Markdown."""
        return str(self._call("GET", f"/api/v2/dags/{dag_id}/details")["doc_md"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The DAG's runs, the oldest first."""
        runs: list[dict[str, Any]] = self._call(
            "GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"limit": 100, "order_by": "run_after"}
        )["dag_runs"]
        return runs

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        found: list[dict[str, Any]] = self._call("GET", path)["task_instances"]
        return found

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        """The log of one try, as text."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        lines = self._call("GET", path, headers={"Accept": "application/json"})["content"]
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in lines)

    def follow(self, dag_id: str, run_id: str, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
        """Wait for the end of a run, and tell each task's; raises StackError where it fails or takes too long."""
        told: set[str] = set()
        for run in self._polled(dag_id, run_id, seconds):
            for task in self.tasks(dag_id, run_id):
                if task["state"] in ("success", "failed") and task["task_id"] not in told:
                    told.add(task["task_id"])
                    say(f"{dag_id} · {task['task_id']}: {task['state']} ({task['duration'] or 0:.1f} s)")
            if run["state"] in ENDED:
                if run["state"] == "failed":
                    raise StackError(f"{dag_id} failed in run {run_id}: {self._why(dag_id, run_id)}")
                return run
        raise StackError(f"{dag_id} did not end within {seconds:g} s in run {run_id}: see its tasks in the UI")

    def _polled(self, dag_id: str, run_id: str, seconds: float) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
            time.sleep(POLL_SECONDS)

    def _why(self, dag_id: str, run_id: str) -> str:
        for task in self.tasks(dag_id, run_id):
            if task["state"] == "failed":
                last = self.log(dag_id, run_id, task["task_id"], task["try_number"]).splitlines()[-8:]
                return f"task {task['task_id']}: " + "\n".join(last)
        return "no task failed"

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """On a busy machine an answer may not come in time: what only asks, asks again."""
        response = None
        for _ in range(TRIES if method == "GET" else 1):
            with suppress(httpx.ReadTimeout):
                response = self._http.request(method, path, **arguments)
                break
        if response is None:
            raise StackError(f"Airflow does not answer {method} {path}: see `make logs`, or is the machine busy?")
        if response.is_error:
            raise StackError(f"Airflow answers {response.status_code} to {method} {path}: {response.text[:500]}")
        answer: dict[str, Any] = response.json()
        return answer
