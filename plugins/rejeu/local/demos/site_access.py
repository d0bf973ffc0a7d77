"""The demo of `site_access`: people come and go, and at the end as many are inside as their entries and exits say."""

from __future__ import annotations

from rejeu.local.demos.simulated import SimulatedStory
from rejeu.pipelines import Column


class SiteAccess(SimulatedStory):
    """Every entry and exit; and the occupancy that follows from them."""

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

    def further_checks(self) -> dict[str, int]:
        view = f"{self.target.table(self.spec.live.table)}_occupancy"
        due = f"SELECT site, service, SUM(event) AS inside FROM `{self.expected}` GROUP BY site, service"
        wrong = self.row(
            f"SELECT COUNT(*) FROM ({due}) AS due FULL JOIN `{view}` AS found "
            "ON found.site = due.site AND found.service = due.service "
            "WHERE COALESCE(found.currentOccupancy = due.inside, FALSE) = FALSE"
        )
        return {"wrong_occupancies": int(wrong[0])}
