"""Specs as their files hold them, for tests of whatever goes by one."""

from __future__ import annotations

from typing import Any


def spec_of(stream: str, **changes: Any) -> dict[str, Any]:
    """A spec with a topic and tables of its own, and some fields, such as `live__table`, set."""
    document: dict[str, Any] = {
        "stream": stream,
        "event_time": "at",
        "batch": {"files": "gs://{bucket}/{partition}/*", "table": f"{stream}.days"},
        "live": {"topic": f"topic_of_{stream}", "table": f"{stream}.rows"},
        "replay": {"source": {"table": "web.history"}},
    }
    for field, value in changes.items():
        *parents, last = field.split("__")
        part = document
        for parent in parents:
            part = part.setdefault(parent, {})
        part[last] = value
        if value is None:
            del part[last]
    return document
