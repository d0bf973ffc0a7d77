"""The demo of `site_access`: people come and go, and at the end as many are inside as their entries and exits say."""

from __future__ import annotations

from collections import Counter

import msgspec

from rejeu.gcp.bigtable import read_statuses
from rejeu.gcp.clients import bigtable_table
from rejeu.local.demos.demo_data import TIMEOUT_SECONDS
from rejeu.local.demos.simulated import SimulatedData
from rejeu.spec.columns import Column
from rejeu.timeline import Position


class SiteAccess(SimulatedData):
    """Every entry and exit; and the occupancy that follows from them."""

    becomes = "Each entry or exit becomes one row."
    truth = """
        SELECT
          json ->> '$.eventTime' AS "eventTime",
          json ->> '$.site' AS site,
          json ->> '$.service' AS service,
          json ->> '$.device' AS device,
          CAST(json ->> '$.event' AS BIGINT) AS event
        FROM lines
    """
    key = (
        *(Column("eventTime", "TIMESTAMP"), Column("site", "STRING"), Column("service", "STRING")),
        *(Column("device", "STRING"), Column("event", "INT64")),
    )

    def further_checks(self, end: Position | None) -> dict[str, int]:
        checks = {"wrong_occupancies": self._wrong_in_view()}
        if self.target.bigtable:
            checks["wrong_in_bigtable"] = self._wrong_in_bigtable(end)
        return checks

    def _wrong_in_view(self) -> int:
        view = f"{self.target.table(self.spec.live.table)}_occupancy"
        due = f"SELECT site, service, SUM(event) AS inside FROM `{self.expected}` GROUP BY site, service"
        wrong = self.row(
            f"SELECT COUNT(*) FROM ({due}) AS due FULL JOIN `{view}` AS found "
            "ON found.site = due.site AND found.service = due.service "
            "WHERE COALESCE(found.currentOccupancy = due.inside, FALSE) = FALSE"
        )
        return int(wrong[0])

    def _wrong_in_bigtable(self, end: Position | None) -> int:
        """Of sites and their services; Bigtable knows what was streamed, and not the history."""
        due: Counter[tuple[str, ...]] = Counter()
        for row in map(msgspec.json.decode, self.streamed(end)):
            for place in ((row["site"],), (row["site"], row["service"])):
                due[place] += row["event"]
        instance = f"projects/{self.target.project}/instances/{self.target.bigtable}"
        found = read_statuses(bigtable_table(instance, self.spec.stream, TIMEOUT_SECONDS))
        return sum(place not in found or found[place].occupancy != inside for place, inside in due.items())
