"""What a demo finds out: its numbers, as `demo.json` holds them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """What `demo.json` holds. Instants are RFC 3339, UTC; rows are counted with SQL in BigQuery."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str
    source_rows: int
    batch_rows: int
    expected_rows: int
    streamed_rows: int
    missing: int
    unexpected: int
    duplicates_in_live_view: int
    dead_letters: int
    incidents: int
    killed_at: str
    detected_at: str
    relaunched_at: str
    resumed_at: str
    panes: dict[str, int]
    further_checks: dict[str, int]
    gap_seconds: float
    handover_seconds: float
    total_seconds: float
    epoch: int

    @property
    def exact(self) -> bool:
        """Whether every row is there, once, and none that should not be."""
        wrong = self.missing, self.unexpected, self.duplicates_in_live_view, *self.further_checks.values()
        return not any(wrong)
