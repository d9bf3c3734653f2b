"""How many may run: slots, held per place (an engine or a server)."""

from __future__ import annotations

from lengthwise.errors import IllegalEventError


class Slots:
    """Counts what runs where. A request takes its `slots` at one place, the one with most free.

    A request that wants more slots than its place has takes the whole place, so that a capacity
    lowered behind its back cannot strand it.
    """

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.taken: dict[str, int] = {}
        self._held: dict[int, tuple[str, int]] = {}

    def resize(self, place: str, slots: int) -> None:
        """Set a place's slots; what already runs there stays, even above the new number."""
        if slots < 0:
            raise ValueError(f"slots must not be negative, not {slots!r} at {place!r}")
        self.total[place] = slots
        self.taken.setdefault(place, 0)

    def place_for(self, wanted: int) -> str | None:
        """Name the place with the most free slots that can take `wanted` now, or None."""
        best, most = None, 0
        for place, total in self.total.items():
            free = total - self.taken[place]
            if free > most and free >= min(wanted, total):
                best, most = place, free
        return best

    def allocate(self, request_id: int, wanted: int, place: str) -> None:
        """Take the slots of one request at a place that `place_for` named."""
        count = min(wanted, self.total[place])
        self.taken[place] += count
        self._held[request_id] = (place, count)

    def release(self, request_id: int) -> None:
        """Give back what a request holds. Raises IllegalEventError if it holds nothing."""
        if request_id not in self._held:
            raise IllegalEventError(f"request {request_id} holds no slot")
        place, count = self._held.pop(request_id)
        self.taken[place] -= count

    def place_of(self, request_id: int) -> str:
        """Where a request runs. Raises KeyError if nowhere."""
        return self._held[request_id][0]

    def check(self) -> None:
        """Raise AssertionError unless what is taken is what is held."""
        held = dict.fromkeys(self.taken, 0)
        for place, count in self._held.values():
            held[place] += count
        if held != self.taken:
            raise AssertionError(f"slots taken {self.taken} but held {held}")
