"""The exception tree: what the docstring draws is what there is."""

import inspect
import re

import pytest

from rejeu import errors
from rejeu.errors import RejeuError, SourceError, SpecError, first_line, translated

NODE = re.compile(r"^(?P<lead>[ │├└─]*)(?P<name>\w+Error)\s+(?P<code>\d+)$", re.MULTILINE)


def _drawn() -> list[tuple[str, str, int]]:
    """(class, parent, exit code) of each line of the docstring's tree, from its indentation."""
    path: list[tuple[int, str]] = []
    found = []
    for node in NODE.finditer(errors.__doc__ or ""):
        depth = len(node["lead"])
        path = [(at, name) for at, name in path if at < depth]
        found.append((node["name"], path[-1][1] if path else "Exception", int(node["code"])))
        path.append((depth, node["name"]))
    return found


def _real() -> list[tuple[str, str, int]]:
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, RejeuError)]
    return [(each.__name__, each.__bases__[0].__name__, each.exit_code) for each in classes]


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    assert sorted(_drawn()) == sorted(_real())


def test_every_error_says_in_its_docstring_when_it_comes() -> None:
    for name, _, _ in _real():
        assert getattr(errors, name).__doc__, f"{name} has no docstring"


def test_the_exit_codes_are_those_of_the_classes_with_the_first_lines_of_their_docstrings() -> None:
    codes = {each.error: each for each in errors.exit_codes()}
    assert codes.keys() == {name for name, _, _ in _real()} - {"RejeuError"}
    assert codes["LeaseHeldError"] == (
        5,
        "LeaseHeldError",
        "Another replay holds the right to publish for this stream.",
    )
    assert all(each.meaning.endswith(".") for each in codes.values())


def test_no_error_ends_a_program_as_success_or_as_a_signal_does() -> None:
    assert all(0 < code < 126 for _, _, code in _real())


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("replay.speed", "replay.speed: it is -2: it must be above 0. Mend it. (s.yaml)"),
        ("", "it is -2: it must be above 0. Mend it. (s.yaml)"),
    ],
)
def test_a_spec_error_says_field_reason_and_remedy_before_the_file(field: str, message: str) -> None:
    error = SpecError("s.yaml", field, "it is -2: it must be above 0", "Mend it.")
    assert str(error) == message
    assert (error.file, error.field, error.remedy) == ("s.yaml", field, "Mend it.")


def test_a_librarys_error_becomes_ours_and_others_stay() -> None:
    told = r"^f cannot be read: gone; replace it$"
    with pytest.raises(SourceError, match=told), translated(SourceError, "f cannot be read", (OSError, "replace it")):
        raise OSError("gone.")
    with pytest.raises(KeyError), translated(SourceError, "f cannot be read", (OSError, "replace it")):
        raise KeyError("ours")


@pytest.mark.parametrize(
    ("error", "told"),
    [(PermissionError("no"), "f: no; ask"), (TimeoutError("late"), "f: late; wait"), (OSError("odd"), "f: odd; mend")],
)
def test_the_first_remedy_for_an_errors_kind_is_told(error: OSError, told: str) -> None:
    remedies = ((PermissionError, "ask"), ((TimeoutError, ConnectionError), "wait"), (OSError, "mend"))
    with pytest.raises(SourceError, match=f"^{told}$"), translated(SourceError, "f", *remedies):
        raise error


@pytest.mark.parametrize(("error", "told"), [(OSError("one\ntwo"), "f: one; mend"), (OSError(), "f: OSError; mend")])
def test_a_long_text_of_a_library_may_be_cut_to_its_first_line(error: OSError, told: str) -> None:
    with pytest.raises(SourceError) as caught, translated(SourceError, "f", (OSError, "mend"), why=first_line):
        raise error
    assert (str(caught.value), caught.value.__cause__) == (told, error)
