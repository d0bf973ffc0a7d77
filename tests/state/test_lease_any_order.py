"""The lease, asked for, renewed, released and lost in any order: hypothesis looks for two that publish at once."""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rejeu.errors import LeaseHeldError, LeaseLostError, StateConflictError, StateError
from rejeu.state import lease as lease_module
from rejeu.state.lease import Lease, read_state
from rejeu.state.model import Status
from tests.fakes.crowded_store import Clock, CrowdedStore
from tests.state.fencing import fence_off

STREAM = "clicks"
SECONDS = 3.0


class Publishers(RuleBasedStateMachine):
    """Publishers that ask, renew, release, pause and die in any order, also between each other's read and write.

    Any answer may be lost. Each of the three is one replay after the other, and each replay has a name of its own.
    """

    holders = st.sampled_from(["one", "two", "three"])
    losses = st.sampled_from([None, StateConflictError, StateError])
    interruptions = st.none() | st.tuples(st.sampled_from(["acquire", "checkpoint", "release"]), holders)

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self._patch = self.clock.installed(lease_module)
        self._patch.__enter__()
        self.store = CrowdedStore()
        self.leases: dict[str, Lease] = {}
        self.asking: dict[str, str] = {}
        self.replays = itertools.count()
        self.epochs: list[int] = []

    def teardown(self) -> None:
        self._patch.__exit__(None, None, None)

    def _do(self, what: str, holder: str) -> None:
        if what == "acquire":
            self._acquire(holder)
        elif holder in self.leases:
            self._use(what, holder)

    def _acquire(self, holder: str) -> None:
        name = self.asking.setdefault(holder, f"{holder}:{next(self.replays)}")
        try:
            lease = Lease.acquire(self.store, STREAM, name, SECONDS)
        except (LeaseHeldError, StateError):
            return
        del self.asking[holder]
        self.leases[holder] = lease
        self.epochs.append(lease.epoch)

    def _use(self, what: str, holder: str) -> None:
        lease = self.leases[holder]
        try:
            if what == "release":
                lease.release(Status.STOPPED)
            else:
                lease.checkpoint()
        except LeaseLostError:
            self.leases.pop(holder)
        except StateError:
            pass  # as the keeper does: it goes on, while the lease holds

    @rule(
        what=st.sampled_from(["acquire", "checkpoint", "release"]),
        holder=holders,
        interruption=interruptions,
        lost=losses,
    )
    def somebody_acts(
        self, what: str, holder: str, interruption: tuple[str, str] | None, lost: type[StateError] | None
    ) -> None:
        # A publisher does one thing at a time: only another one can come between.
        if interruption is not None and interruption[1] != holder:
            self.store.between = lambda: self._do(*interruption)
        self.store.lost = lost
        self._do(what, holder)
        self.store.between = self.store.lost = None

    @rule(seconds=st.floats(0.1, 2 * SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.clock.elapsed += seconds

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def somebody_dies_and_is_fenced_off(self, data: st.DataObject) -> None:
        dead = self.leases.pop(data.draw(st.sampled_from(sorted(self.leases))))
        fence_off(self.store, STREAM, dead.epoch)

    @invariant()
    def nobody_publishes_beside_another(self) -> None:
        live = [holder for holder, lease in self.leases.items() if lease.is_held()]
        assert len(live) <= 1, live

    @invariant()
    def who_publishes_is_who_the_document_names(self) -> None:
        for lease in self.leases.values():
            if lease.is_held():
                state = read_state(self.store, STREAM)
                assert state is not None
                assert (state.holder, state.epoch) == (lease.state.holder, lease.epoch)

    @invariant()
    def no_epoch_is_given_twice(self) -> None:
        assert len(set(self.epochs)) == len(self.epochs)


Publishers.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestPublishers = Publishers.TestCase
