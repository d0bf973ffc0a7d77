"""The page about one message: its body, its attributes, its limits, from `rejeu.message`."""

from __future__ import annotations

from typing import Final

from docs.generate.markdown import page, table
from rejeu import message

INTRODUCTION: Final = """
One row of the source becomes one Pub/Sub message. Its **body** is the row as one JSON object, in the format that
BigQuery's load jobs read. Its **attributes** are texts:
"""
ATTRIBUTES: Final = {
    message.ROW_ID: "Names the row for ever: the same row has the same id, whoever publishes it and however often.",
    message.EVENT_TIME: "When the row happened: RFC 3339, UTC, with microseconds.",
    message.STREAM: "The name of the stream that the row belongs to.",
    message.EPOCH: "The fencing number of the replay that published it: it grows by one with each new holder.",
}
ROW_ID: Final = f"""
## The row id

`<stream>/<event time in µs>/<key>/<ordinal>`, for example `crypto_rates/1619827200000000/2914042/0`.

- The **key** holds the values of the key's columns, with `{message.KEY_SEPARATOR}` between them; `{message.NULL_KEY}`
  stands for NULL. A key longer than {message.MAX_KEY_CHARS} characters, and that of a row without a key, is a digest.
- The **ordinal** counts rows that are equal, from 0. Where rows of one event time and key differ, the key is followed
  by a digest of the row, such as `2914042~527d227875bad51f340b0b5e`.
- A pipeline that makes several rows of one message numbers them: `#0`, `#1` and so on behind the id.
"""
LIMITS: Final = f"""
## Limits

| | at most |
| --- | --- |
| the body of a message | {message.MAX_BODY_BYTES:,} bytes: a larger row ends the replay with exit code 3 |
| a publish request | {message.MAX_MESSAGE_BYTES:,} bytes, {message.MAX_REQUEST_MESSAGES:,} messages |
"""


def render() -> str:
    """The page."""
    rows = [(f"`{name}`", text) for name, text in ATTRIBUTES.items()]
    return page("A message", INTRODUCTION, table(("attribute", "what it says"), rows), ROW_ID, LIMITS)
