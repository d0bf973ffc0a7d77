"""The page about the rooms names each of them once, on the floor where the test of the walls has it."""

from __future__ import annotations

import ast
import re

from tests.docs.pages import ROOT

ROOM = re.compile(r"^\| (\d+) \| `rejeu/(\w+)(?:\.py|/)` \|", re.MULTILINE)


def floors_of_the_walls() -> list[list[str]]:
    """The floors, the ground floor first."""
    (walls,) = (ROOT / "tests").rglob("test_walls.py")
    for node in ast.parse(walls.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FLOORS":
            text: str = ast.literal_eval(node.value)
            return [line.split() for line in text.splitlines() if line.strip()]
    raise AssertionError(f"{walls} has no FLOORS")


def test_the_rooms_stand_on_their_floors() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors: dict[int, list[str]] = {}
    for floor, room in ROOM.findall(page):
        floors.setdefault(int(floor), []).append(room)
    assert [sorted(rooms) for _, rooms in sorted(floors.items())] == [sorted(rooms) for rooms in floors_of_the_walls()]
