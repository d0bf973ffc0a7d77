"""From a spec's file to the mapping in it, whatever the file holds: soon, within a few megabytes, or as a SpecError.

What a spec may say is in `rejeu.spec.model`. libyaml, written in C, makes events of the text; values are made of these
here, for its own way to do that overflows the stack, and ends the process, where brackets are deep.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from rejeu.errors import SpecError, brief, told
from rejeu.spec.shapes import HALF

MOST_BYTES: Final = 65_536
MOST_NODES: Final = 2_000
"""Values in a file, keys among them, with each alias counted as all that it stands for."""
DEEPEST: Final = 20
"""How deep lists and mappings may lie in each other."""


def read_document(file: Path) -> dict[Any, Any]:
    """The mapping in this file. Raises SpecError."""
    text = _text(file)
    try:
        with closing(_Loader(text)) as loader:
            document = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = brief(str(getattr(error, "problem", None) or error))
        raise SpecError(str(file), where, f"it is not YAML: {problem}", "Mend the line.") from None
    if not isinstance(document, dict):
        raise SpecError(
            str(file), "", f"it holds {type(document).__name__}, not a mapping", "Start with `stream: my_stream`."
        )
    return document


def _text(file: Path) -> str:
    """The file's text; a pipe is not waited for, and of a long file no more is read than shows that it is long."""
    if file.exists() and not file.is_file():
        raise SpecError(str(file), "", "it is no file", "Write the spec into a file of its own.")
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise SpecError(str(file), "", f"it cannot be read ({error.strerror})", "Check the path.") from None
    if len(data) > MOST_BYTES:
        reason = f"it is longer than {MOST_BYTES:,} bytes: a spec is short"
        raise SpecError(str(file), "", reason, "Leave out what is no part of it.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(str(file), "", f"it is not UTF-8: see byte {error.start}", "Save it as UTF-8.") from None


class _Size(NamedTuple):
    """How much a value is once it is written out, without aliases."""

    nodes: int
    characters: int
    depth: int


class _Loader(Composer, CParser, SafeConstructor, Resolver):
    """Refuses what is too much for one file, before it is made, and a key that is there twice: YAML takes the last.

    The order of its parents counts: all that makes values of libyaml's events is the composer's, in Python.
    """

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._count = self._depth = 0
        self._sizes: dict[yaml.Node, _Size] = {}

    def close(self) -> None:
        """Let go of the parser."""
        self.dispose()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next value; what an alias stands for is counted again."""
        event: Any = self.peek_event()
        self._count += 1
        self._depth += 1
        _refuse_much(_Size(self._count, 0, self._depth), event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[node] = self._size(node)
            _refuse_much(self._sizes[node], event.start_mark)
        elif node not in self._sizes:
            raise yaml.MarkedYAMLError(None, None, "an alias stands for what it is a part of", event.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. PyYAML lets out whatever int, float and datetime raise: !!bool maybe is a KeyError."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except ValueError as error:  # such as a date of month 13
            raise yaml.MarkedYAMLError(None, None, str(error), node.start_mark) from error
        except Exception as error:  # whose text says little by itself
            problem = f"{told(node.value)} is not what its tag says"
            raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error

    def _size(self, node: yaml.Node) -> _Size:
        if isinstance(node, yaml.ScalarNode):
            if not node.value.isascii() and HALF.search(node.value):
                raise yaml.MarkedYAMLError(None, None, "half a character is no text", node.start_mark)
            return _Size(1, len(node.value), 1)
        parts = [part for each in node.value for part in (each if isinstance(each, tuple) else (each,))]
        sizes = [self._sizes[part] for part in parts]
        nodes, characters = sum(each.nodes for each in sizes), sum(each.characters for each in sizes)
        return _Size(1 + nodes, characters, 1 + max((each.depth for each in sizes), default=0))


def _refuse_much(size: _Size, mark: Any) -> None:
    for found, most, what in (
        (size.nodes, MOST_NODES, f"it has more than {MOST_NODES:,} values, those of aliases included"),
        (size.characters, MOST_BYTES, f"it has more than {MOST_BYTES:,} characters, those of aliases included"),
        (size.depth, DEEPEST, f"lists and mappings lie in each other more than {DEEPEST} deep"),
    ):
        if found > most:
            raise yaml.MarkedYAMLError(None, None, what, mark)


def _once(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if str(key.value) in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
        seen.add(str(key.value))
    return loader.construct_mapping(node, deep=True)


# Its types know PyYAML's own loaders only.
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)  # type: ignore[type-var]
