"""The Bigtable table that serves a stream: its column families, its row keys, and reading it.

The pipeline `occupancy` of `beam_jobs` writes it and says what its rows hold.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from google.api_core.exceptions import AlreadyExists

from rejeu.timeline import parse_instant

if TYPE_CHECKING:
    from google.cloud.bigtable import Client
    from google.cloud.bigtable.data import RowRange, Table

log = logging.getLogger(__name__)

SEPARATOR: Final = "#"
EVENT: Final = "event"
SUM: Final = "sum"
STATUS: Final = "realTimeStatus"
FAMILIES: Final = (EVENT, SUM, STATUS)
STATUS_ROWS: Final = "status"
OCCUPANCY: Final = "currentOccupancy"
WRITE_TIME: Final = "writeTime"


class Occupancy(NamedTuple):
    """The occupancy, and when it was written (aware UTC)."""

    occupancy: int
    written: datetime


def key_part(text: str) -> str:
    """The text, escaped for use between two separators of a row key."""
    return text.replace("%", "%25").replace(SEPARATOR, "%23")


def range_of(prefix: str) -> RowRange:
    """The rows whose keys begin with this text, which is not empty."""
    from google.cloud.bigtable.data import RowRange

    start = prefix.encode()
    # UTF-8 has no byte 255, so the last byte can always be one greater.
    return RowRange(start, start[:-1] + bytes([start[-1] + 1]))


def ensure_served(client: Client, instance: str, name: str) -> None:
    """Create what is missing of the table `name` and its column families; each cell keeps its newest version.

    `instance` is an id in the client's project. Raises NotFound where there is no such instance.
    """
    from google.cloud.bigtable.column_family import MaxVersionsGCRule

    table = client.instance(instance).table(name)
    rules = dict.fromkeys(FAMILIES, MaxVersionsGCRule(1))
    try:
        table.create(column_families=rules)
        log.info("created Bigtable table %s", table.name)
    except AlreadyExists:
        found = table.list_column_families()
        for family in rules.keys() - found.keys():
            table.column_family(family, rules[family]).create()
            log.info("created family %s of Bigtable table %s", family, table.name)


def read_statuses(table: Table) -> dict[tuple[str, ...], Occupancy]:
    """The status of every site, as (site,), and of every service of one, as (site, service)."""
    from google.cloud.bigtable.data import ReadRowsQuery
    from google.cloud.bigtable.data.row_filters import CellsColumnLimitFilter

    query = ReadRowsQuery(row_ranges=[range_of(STATUS_ROWS + SEPARATOR)], row_filter=CellsColumnLimitFilter(1))
    found = {}
    for row in table.read_rows(query):
        _, *names = row.row_key.decode().split(SEPARATOR)
        (occupancy,), (written,) = row[STATUS, OCCUPANCY], row[STATUS, WRITE_TIME]
        status = Occupancy(int(occupancy.value), parse_instant(written.value.decode()))
        found[tuple(map(unquote, names))] = status
    return found
