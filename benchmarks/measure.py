"""Measures and sums up: one sample a run, medians over the rounds, ratios within a round; nothing is printed here."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One run of a subject; CPU seconds are those of whole processes, all threads, user and system."""

    server: str
    subject: str
    messages: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


@dataclass(frozen=True)
class Summary:
    """Medians over the rounds; `ratios` are to other subjects, by name, of the same server and round."""

    server: str
    subject: str
    rate: float
    slowest: float
    fastest: float
    ratios: dict[str, float]
    cpu_us: float
    server_cpu_us: float


class Stopwatch:
    """Times a block: the wall clock, our CPU and that of ended children, and the server's CPU."""

    def __init__(self, server: psutil.Process) -> None:
        self.seconds = self.cpu_seconds = self.server_cpu_seconds = 0.0
        self._server = server

    def __enter__(self) -> Self:
        self._before = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spent = [now - before for now, before in zip(self._read(), self._before, strict=True)]
        self.seconds, self.cpu_seconds, self.server_cpu_seconds = spent

    def _read(self) -> tuple[float, float, float]:
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        server = self._server.cpu_times()
        return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in own), server.user + server.system


def summarise(samples: Sequence[Sample], compared: Sequence[str]) -> list[Summary]:
    """One line for each server and subject, in the order of their first samples; ratios to the subjects `compared`."""
    runs: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        runs.setdefault((sample.server, sample.subject), []).append(sample)
    return [
        _summary(own, {name: runs[server, name] for name in compared if (server, name) in runs})
        for (server, _), own in runs.items()
    ]


def _summary(own: Sequence[Sample], others: dict[str, list[Sample]]) -> Summary:
    rates = [each.rate for each in own]
    return Summary(
        server=own[0].server,
        subject=own[0].subject,
        rate=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        ratios={
            name: median(a.rate / b.rate for a, b in zip(own, other, strict=True)) for name, other in others.items()
        },
        cpu_us=median(each.cpu_seconds / each.messages * 1e6 for each in own),
        server_cpu_us=median(each.server_cpu_seconds / each.messages * 1e6 for each in own),
    )


def spread(values: NDArray[Any], unit: float = 1.0, tail: float = 0.99) -> dict[str, float]:
    """p50, the tail's percentile and the maximum of the values, each divided by `unit`."""
    found = {"p50": np.quantile(values, 0.5), f"p{tail * 100:g}": np.quantile(values, tail), "max": values.max()}
    return {name: round(float(value) / unit, 3) for name, value in found.items()}
