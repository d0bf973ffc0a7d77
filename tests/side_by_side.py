"""How tests are spread over workers that run side by side (`pytest -n`); without, they run in the order they stand."""

from __future__ import annotations

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

WHOLE_STACKS: Final = "tests/whole_stack/"
EMULATED: Final = "emulated"


class ByFile(LoadScopeScheduling):
    """A file's tests stay together, for they share servers.

    Whole stacks come one by one in each of their folders, and so two at once: more would fill a machine.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file.rpartition("/")[0] if file.startswith(WHOLE_STACKS) else file


def longest_first(items: list[pytest.Item]) -> None:
    """Let whole stacks begin, then other servers, so that no worker is still busy long after the others."""
    ranks: dict[object, int] = {}
    for item in items:
        ranks[item.path] = min(ranks.get(item.path, 2), _rank(item))
    items.sort(key=lambda item: ranks[item.path])


def _rank(item: pytest.Item) -> int:
    if item.nodeid.startswith(WHOLE_STACKS):
        return 0
    return 1 if item.get_closest_marker(EMULATED) else 2
