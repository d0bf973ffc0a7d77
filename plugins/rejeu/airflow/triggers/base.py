"""What every trigger of ours has: its arguments as Airflow stores them, whom `on_kill` may believe, a wait in a worker.

An exception in `__init__` other than TypeError ends the whole triggerer, again and again (apache/airflow#72758), and a
TypeError ends the trigger. Arguments of older and newer releases come there too: so it takes whatever there is, and
what cannot be understood is told by whoever asks for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from airflow.triggers.base import BaseTrigger
from pydantic import BaseModel, ValidationError

from rejeu.errors import RequestError, explain_first

log = logging.getLogger(__name__)

STORED_PATH: Final = "rejeu.airflow.triggers"
"""Airflow's database has it: it stays, wherever the classes stand."""
DEFERRED: Final = "deferred"
"""The state of a task that waits for its trigger."""

A = TypeVar("A", bound=BaseModel)


class StoredTrigger(BaseTrigger, Generic[A]):
    """A trigger whose arguments are one JSON string: nested ones come back as something else from Airflow 3.2.

    Releases before this form gave each argument a name of its own; those are understood, too.
    """

    model: ClassVar[type[BaseModel]]
    """What the arguments are."""

    def __init__(self, arguments: object = "{}", **named: object) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stored, self._named = arguments, named

    @classmethod
    def of(cls, arguments: A) -> Self:
        """The trigger with these arguments."""
        return cls(arguments.model_dump_json())

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{STORED_PATH}.{type(self).__qualname__}", {**self._named, "arguments": self._stored}

    @cached_property
    def arguments(self) -> A:
        """What the trigger was made with. Raises RequestError where this Rejeu does not understand it."""
        try:
            found = self.model.model_validate(self.content)
        except (ValidationError, ValueError, TypeError) as error:
            why = explain_first(error) if isinstance(error, ValidationError) else str(error)
            raise RequestError(
                f"{type(self).__name__}: {why}: another release of Rejeu wrote these arguments; install one release "
                "everywhere, and the next parsing of its DAG replaces a watch; run a task that waits again"
            ) from None
        return found  # type: ignore[return-value]

    @property
    def content(self) -> dict[str, Any]:
        """The arguments as they were stored. Raises ValueError and TypeError where they are no JSON object."""
        return {**self._named, **json.loads(self._stored)}  # type: ignore[arg-type]


async def still_waits(trigger: BaseTrigger) -> bool:
    """Whether the task still waits for the trigger, which then only moves to another triggerer.

    That is told as a person's kill is, by `on_kill` (apache/airflow#73454). Where Airflow cannot be asked it is taken
    to wait: a job that goes on is found again by its name.
    """
    task = trigger.task_instance
    if task is None:
        return True
    try:
        return await asyncio.to_thread(_state_of, task) == DEFERRED
    except Exception:  # whatever keeps the answer away: the job is left alone
        log.exception("%s: whether %s was killed is not known: its job goes on", task.dag_id, task.task_id)
        return True


def _state_of(task: Any) -> str | None:
    """The task's state; None where Airflow knows none, as after a clear."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index
    )
    # With a map index the key is another one than the task's id, and there is one task only.
    return next(iter(states.get(task.run_id, {}).values()), None)


async def first_event(trigger: BaseTrigger, limit: timedelta) -> Any:
    """The payload of the trigger's first event, waited for right here. Raises TimeoutError."""
    event = await asyncio.wait_for(anext(aiter(trigger.run())), limit.total_seconds())
    return event.payload
