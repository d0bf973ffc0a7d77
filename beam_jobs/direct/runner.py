"""Beam's DirectRunner without its useless work for each step of each bundle; steps do what they did.

There is no seam for it, so private parts are replaced: when Beam changes them, `tests/beam_jobs/direct/test_runner.py`
fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.runners.direct.executor import _ExecutorServiceParallelExecutor
from apache_beam.runners.direct.watermark_manager import _TransformWatermarks
from apache_beam.transforms import userstate


@contextmanager
def replaced(owner: Any, **ours: Any) -> Iterator[None]:
    """Replace attributes of a class or module of Beam's while the block runs. KeyError where one does not exist."""
    beams_own = {name: vars(owner)[name] for name in ours}
    for name, value in ours.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in beams_own.items():
            setattr(owner, name, value)


@contextmanager
def light_bundles() -> Iterator[None]:
    """No step runs for an empty bundle, none waits for one, and whether a step has state is looked up once.

    Beam passes on empty outputs, so that one pull runs each step of the dead letters three times. It keeps the empty
    bundle that triggers the next pull for ever, and scans all of these at each pull. And twice a bundle it looks for
    state with `inspect`, in all methods of a step: most of the cost of a small bundle.
    """
    beams_consumers = _ExecutorServiceParallelExecutor.schedule_consumers
    beams_pending = _TransformWatermarks.add_pending
    beams_specs = userstate.get_dofn_specs
    specs: dict[type, Any] = {}

    def schedule_consumers(executor: Any, bundle: Any) -> None:
        if bundle.has_elements():
            beams_consumers(executor, bundle)

    def add_pending(watermarks: Any, bundle: Any) -> None:
        if bundle.has_elements():
            beams_pending(watermarks, bundle)

    def get_dofn_specs(step: Any) -> Any:
        if type(step) not in specs:
            specs[type(step)] = beams_specs(step)
        return specs[type(step)]

    with (
        replaced(_ExecutorServiceParallelExecutor, schedule_consumers=schedule_consumers),
        replaced(_TransformWatermarks, add_pending=add_pending),
        replaced(userstate, get_dofn_specs=get_dofn_specs),
    ):
        yield
