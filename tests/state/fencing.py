"""What the watchdog does with a replay that it takes for dead; no fixture and no test."""

from rejeu.ports import StateStore
from rejeu.state.lease import update_state
from rejeu.state.model import StreamState


def fence_off(store: StateStore, stream: str, epoch: int) -> None:
    """Put an end to this epoch, if it is the newest, as the watchdog does with a replay that it takes for dead."""

    def fence(state: StreamState) -> StreamState:
        if state.epoch != epoch:
            return state
        return state.model_copy(update={"epoch": epoch + 1, "holder": None, "lease_until": None})

    update_state(store, stream, fence)
