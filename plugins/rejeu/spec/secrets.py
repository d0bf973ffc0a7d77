"""Secrets by reference: what stands in the place of a key, and what may not stand openly in a spec or a request.

Both travel as arguments and are kept, logged and shown. What a reference stands for is looked up by the process that
needs it, in `rejeu.replay.source.secrets`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple
from urllib.parse import unquote_plus

from pydantic import BeforeValidator, ConfigDict, JsonValue, RootModel

from rejeu.errors import brief

NAMES: Final = {
    "env": r"[A-Za-z_][A-Za-z0-9_]*",
    "secret": r"[A-Za-z0-9_-]{1,255}|projects/[^/{}]+/secrets/[A-Za-z0-9_-]{1,255}(?:/versions/[A-Za-z0-9_-]+)?",
    "connection": r"[A-Za-z0-9_.-]{1,200}",
}
"""What may be referred to: a variable, a secret of Google's Secret Manager, the password of an Airflow connection."""
REFERENCE: Final = re.compile("|".join(rf"\{{(?:{kind}):(?:{name})\}}" for kind, name in NAMES.items()))
MEANT: Final = re.compile(rf"\{{(?:{'|'.join(NAMES)}):")
"""How a reference begins, well made or not."""
REMEDY: Final = "write {env:NAME}, {secret:NAME} or {connection:ID} in its place"
SEEN: Final = "which anybody would see in arguments, logs and state"

OF_KEYS: Final = re.compile(
    "token|secret|password|passwd|credential|apikey|accesskey|privatekey|authkey|subscriptionkey|licensekey"
)
"""What names of secrets have in them, in small letters and digits alone."""
KEYS: Final = frozenset({"key", "auth", "authorization", "sig", "signature", "pass", "pwd", "jwt", "bearer", "appid"})
"""More names that they have in the query of an address."""
OF_HEADERS: Final = re.compile("auth|cookie|key|signature")
"""What they have in them where they are headers."""
HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
LONGEST_HEADER: Final = 2_000

USERINFO: Final = re.compile(r"(?:(?<=//)|(?<=:/)|^)[^/?#\s]*@")
FIELD: Final = re.compile(r"(?<=[?&#;])([^=&#;]*)=([^&#;]*)")


class Reference(NamedTuple):
    """Where a secret is: its kind, one of NAMES, and its name there."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{{{self.kind}:{self.name}}}"


def references(value: JsonValue) -> Iterator[Reference]:
    """All that a text has, or the texts in a list or a mapping."""
    if isinstance(value, str):
        for found in REFERENCE.finditer(value):
            kind, _, name = found[0][1:-1].partition(":")
            yield Reference(kind, name)
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from references(each)


def without_references(text: str) -> str:
    """The text with a letter for each. Raises ValueError for one that is badly made."""
    left = REFERENCE.sub("x", text)
    if MEANT.search(left):
        raise ValueError(f"it is {hidden(brief(text))!r}: a reference has one name of letters and digits; {REMEDY}")
    return left


def hidden(address: str) -> str:
    """The address, or what is none, without the secrets that stand openly in it."""
    return FIELD.sub(_hidden_field, USERINFO.sub(_hidden_userinfo, address))


def refuse_open_address(address: str) -> None:
    """Raises ValueError for an address with a user's password or a key in it; the message does not repeat it."""
    if hidden(address) != address:
        raise ValueError(f"it is {brief(hidden(address))!r}: *** is a secret, {SEEN}; {REMEDY}")


def refuse_open_options(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The options. Raises ValueError for one that is called like a secret and holds one, at any depth."""
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                refuse_open_options(each)
            elif (
                each
                and not isinstance(each, (bool, list))
                and OF_KEYS.search(_bare(name))
                and not any(references(each))
            ):
                raise ValueError(f"it is not to be read openly: {brief(name)} holds a secret, {SEEN}; {REMEDY}")
    return options


def _headers(value: object) -> object:
    """Checked by hand: pydantic's own messages would repeat a secret. Raises ValueError."""
    if isinstance(value, Headers):
        return value
    if not isinstance(value, dict):
        raise ValueError("it is no mapping: headers are names and texts, such as X-Api-Key: '{env:STATIONS_KEY}'")
    for name, text in value.items():
        if not isinstance(name, str) or not HEADER.fullmatch(name):
            raise ValueError(f"it is no header's name, {brief(repr(name))}: it must be letters, digits and dashes")
        if not isinstance(text, str) or not (text.isascii() and text.isprintable() and len(text) <= LONGEST_HEADER):
            rule = f"it must be text of at most {LONGEST_HEADER:,} characters of ASCII, in quotes"
            raise ValueError(f"it is nothing to send what {name} says: {rule}")
        if MEANT.search(REFERENCE.sub("", text)):
            raise ValueError(f"it is no reference what {name} has in braces: it has one name, of letters; {REMEDY}")
        if _is_secret_header(name) and text and not any(references(text)):
            raise ValueError(f"it is not to be read openly: {name} holds a secret, {SEEN}; {REMEDY}")
    return value


class Headers(RootModel[dict[str, str]]):
    """What an API is asked with besides its address; as a flag it is JSON."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, value: object) -> object:
        """From the text that `str` gives. Raises ValueError."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                example = '{"X-Api-Key": "{env:STATIONS_KEY}"}'
                raise ValueError(f"it is no JSON: it must be JSON, such as {example}") from None
        return _headers(value)

    def __str__(self) -> str:
        return self.model_dump_json()


HeaderTexts = Annotated[dict[str, str], BeforeValidator(_headers)]
RequestHeaders = Annotated[Headers, BeforeValidator(Headers.read)]


def _is_secret_header(name: str) -> bool:
    return bool(OF_KEYS.search(_bare(name)) or OF_HEADERS.search(_bare(name)))


def _hidden_userinfo(found: re.Match[str]) -> str:
    """A password, or a name without one, which is a key then; a reference may be both."""
    info = found[0][:-1]
    user, colon, password = info.partition(":")
    if REFERENCE.search(info) or not (user or password):
        return found[0]
    return f"{user}:***@" if password else f"***{colon}@"


def _hidden_field(found: re.Match[str]) -> str:
    name = _bare(unquote_plus(found[1]))
    if not found[2] or REFERENCE.search(found[2]) or not (name in KEYS or OF_KEYS.search(name)):
        return found[0]
    return f"{found[1]}=***"


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
