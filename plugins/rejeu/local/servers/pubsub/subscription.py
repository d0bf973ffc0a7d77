"""One subscription's messages: waiting, out to a consumer until a deadline, then dropped or back; no names, no gRPC."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rejeu.local.servers.pubsub import wire

# Deadlines may be this late: it bounds how often all outstanding messages are looked through.
_DEADLINE_GRAIN_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Consumer:
    """One pull or one stream: how long it may keep a message, and how much at once (0: no limit)."""

    ack_deadline_seconds: float
    max_messages: int = 0
    max_bytes: int = 0
    messages_out: int = 0
    bytes_out: int = 0

    def has_room(self) -> bool:
        """Whether flow control lets it take one more."""
        return not (0 < self.max_messages <= self.messages_out or 0 < self.max_bytes <= self.bytes_out)


@dataclass(slots=True, eq=False)
class Delivery:
    """One encoded message out to one consumer."""

    ack_id: str
    message: bytes
    deadline: float
    lane: "Lane"
    consumer: Consumer


class Lane:
    """The messages of one ordering key, or under the key "" all those that may go in any order."""

    __slots__ = ("key", "out", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[bytes] = deque()
        self.out: dict[Delivery, None] = {}  # in the order of delivery; kept for ordering keys only

    def is_open_to(self, consumer: Consumer) -> bool:
        """A key is with one consumer at a time: two of them could not keep its order."""
        return not self.out or next(iter(self.out)).consumer is consumer

    def from_on(self, delivery: Delivery) -> list[Delivery]:
        """What has to come back when `delivery` does: with a key, also what followed it."""
        if not self.key:
            return [delivery]
        order = list(self.out)
        return order[order.index(delivery) :]


class Subscription:
    """The queue behind one subscription. Everything must be called on the event loop that made it."""

    def __init__(self, config: wire.Pb, ids: Iterator[int]) -> None:
        self.config = config
        self.deleted = False
        self._ids = ids
        self._lanes: dict[str, Lane] = {}
        self._ready: dict[str, Lane] = {}  # the lanes where something waits, next one first
        self._out: dict[str, Delivery] = {}
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None

    def put(self, messages: Sequence[wire.Message], encoded: Sequence[bytes]) -> None:
        """Queue published messages in their encoded form, which all subscriptions share."""
        if self.config.enable_message_ordering:
            for message, data in zip(messages, encoded, strict=True):
                self._ready_lane(message.ordering_key).waiting.append(data)
        else:
            self._ready_lane("").waiting.extend(encoded)
        self.wake()

    async def take(self, consumer: Consumer, *, until: Callable[[], bool] = lambda: False) -> list[Delivery]:
        """Wait for messages and hand them to `consumer`; empty once `until` holds (`wake` has it looked at).

        Raises `Refused` when the subscription is deleted meanwhile.
        """
        while not until():
            if self.deleted:
                raise wire.Refused.missing(self.config.name)
            if taken := self._take_now(consumer):
                return taken
            self._changed.clear()
            await self._changed.wait()
        return []

    def _take_now(self, consumer: Consumer) -> list[Delivery]:
        """Hand what waits to `consumer`, as far as its flow control and the size of one response allow."""
        taken: list[Delivery] = []
        size = 0
        deadline = self._loop.time() + consumer.ack_deadline_seconds
        for lane in [lane for lane in self._ready.values() if lane.is_open_to(consumer)]:
            self._ready[lane.key] = self._ready.pop(lane.key)  # the other keys are before it next time
            while lane.waiting:
                next_size = len(lane.waiting[0])
                too_big = taken and size + next_size > wire.MAX_PULL_BYTES
                if too_big or len(taken) >= wire.MAX_PULL_MESSAGES or not consumer.has_room():
                    return taken
                taken.append(self._deliver(lane, consumer, deadline))
                size += next_size
            del self._ready[lane.key]
        return taken

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Drop messages for good. One whose deadline has passed stays: it is waiting again, under another id."""
        for delivery in self._find(ack_ids):
            self._remove(delivery)
        self.wake()

    def modify_ack_deadline(self, ack_ids: Iterable[str], seconds: int) -> None:
        """Give the messages `seconds` from now; 0 has them delivered again at once."""
        if not 0 <= seconds < wire.ACK_DEADLINE_SECONDS.stop:
            raise wire.Refused.invalid(f"ack_deadline_seconds is {seconds}: it must be 0 to 600.")
        deliveries = self._find(ack_ids)
        if seconds == 0:
            self._give_back(deliveries)
            return
        deadline = self._loop.time() + seconds
        for delivery in deliveries:
            delivery.deadline = deadline
        self._set_alarm(deadline)

    def seek(self, time: wire.Pb) -> None:
        """Acknowledge what was published before `time`; nothing acknowledged comes back, as it is not retained."""

        def is_kept(message: bytes) -> bool:
            published = wire.PubsubMessage.FromString(message).publish_time
            return bool((published.seconds, published.nanos) >= (time.seconds, time.nanos))

        for lane in list(self._ready.values()):
            lane.waiting = deque(filter(is_kept, lane.waiting))
            if not lane.waiting:
                del self._ready[lane.key]
                self._forget_if_idle(lane)
        self.acknowledge([ack_id for ack_id, delivery in self._out.items() if not is_kept(delivery.message)])

    def delete(self) -> None:
        """Let go of every message and of everyone who waits."""
        self.deleted = True
        for held in (self._lanes, self._ready, self._out):
            held.clear()
        self.wake()

    def wake(self) -> None:
        """Have everyone who waits look again."""
        self._changed.set()

    def _ready_lane(self, key: str) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        self._ready[key] = lane
        return lane

    def _deliver(self, lane: Lane, consumer: Consumer, deadline: float) -> Delivery:
        delivery = Delivery(str(next(self._ids)), lane.waiting.popleft(), deadline, lane, consumer)
        self._out[delivery.ack_id] = delivery
        if lane.key:
            lane.out[delivery] = None
        consumer.messages_out += 1
        consumer.bytes_out += len(delivery.message)
        self._set_alarm(deadline)
        return delivery

    def _find(self, ack_ids: Iterable[str]) -> list[Delivery]:
        """Those that are still out, in the order given; an unknown id is an old one if it looks like an id."""
        found = []
        for ack_id in dict.fromkeys(ack_ids):
            if delivery := self._out.get(ack_id):
                found.append(delivery)
            elif not ack_id.isdecimal():
                raise wire.Refused.invalid(f"Invalid ack id {ack_id!r}: send back the ack_id of a received message.")
        return found

    def _remove(self, delivery: Delivery) -> None:
        del self._out[delivery.ack_id]
        delivery.lane.out.pop(delivery, None)
        delivery.consumer.messages_out -= 1
        delivery.consumer.bytes_out -= len(delivery.message)
        self._forget_if_idle(delivery.lane)

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in reversed(deliveries):
            if delivery.ack_id not in self._out:  # an earlier one of its key has taken it along
                continue
            lane = delivery.lane
            for returned in reversed(lane.from_on(delivery)):
                lane.waiting.appendleft(returned.message)
                self._remove(returned)
            self._ready[lane.key] = lane
        self.wake()

    def _forget_if_idle(self, lane: Lane) -> None:
        if lane.key and not lane.waiting and not lane.out:
            self._lanes.pop(lane.key, None)

    def _set_alarm(self, deadline: float) -> None:
        if self._alarm is not None:
            if self._alarm.when() <= deadline:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(max(deadline, self._loop.time() + _DEADLINE_GRAIN_SECONDS), self._expire)

    def _expire(self) -> None:
        self._alarm = None
        now = self._loop.time()
        self._give_back([delivery for delivery in self._out.values() if delivery.deadline <= now])
        if self._out:
            self._set_alarm(min(delivery.deadline for delivery in self._out.values()))
