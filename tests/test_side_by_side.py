"""How tests are spread over workers: what must stay together does, and what takes longest comes first."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.side_by_side import ByFile, longest_first


def item(nodeid: str, *marks: str) -> Any:
    return SimpleNamespace(
        nodeid=nodeid, path=Path(nodeid.partition("::")[0]), get_closest_marker=lambda name: name in marks
    )


def scopes(*nodeids: str) -> list[str]:
    return [ByFile._split_scope(None, nodeid) for nodeid in nodeids]  # type: ignore[arg-type]


def test_a_files_tests_stay_together() -> None:
    found = scopes("tests/a/test_b.py::test_c", "tests/a/test_b.py::D::test_e", "tests/a/test_f.py::test_c[x::y]")
    assert found == ["tests/a/test_b.py", "tests/a/test_b.py", "tests/a/test_f.py"]


def test_whole_stacks_of_one_folder_stay_together() -> None:
    files = ["a/test_b.py", "a/test_c.py", "d/test_e.py"]
    found = scopes(*(f"tests/whole_stack/{file}::test_f[x/y]" for file in files))
    assert found == [f"tests/whole_stack/{folder}" for folder in ("a", "a", "d")]


def test_whole_stacks_come_first_then_files_with_servers_each_in_the_order_it_stands() -> None:
    light = item("tests/a/test_1.py::test_a")
    mixed = [item("tests/a/test_2.py::test_a"), item("tests/a/test_2.py::test_b", "emulated")]
    stack = [item("tests/whole_stack/test_3.py::test_b"), item("tests/whole_stack/test_3.py::test_a")]
    items = [light, *mixed, *stack]
    longest_first(items)
    assert items == [*stack, *mixed, light]
