"""The last step of a served query: the output goes to the client, and to nobody else."""

from __future__ import annotations

from typing import Any

from sim.cost import Cost, message
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import RingArray
from sim.role import SERVER


def _value(x: Any) -> Any:
    return x


DELIVERED = Functionality("delivery to the client", _value, leaks_client=("the value",))


def _deliver_cost(x: RingArray) -> Cost:
    return message(SERVER, x.spec.bits)


@protocol(realises=DELIVERED, cost=_deliver_cost)
async def deliver(p: Party, x: RingArray) -> RingArray | None:
    """Open x to the client: the server sends its share. x: shares over any ring and shape. Returns the value to the
    client and None to the server. One flight.
    """
    if p.role is SERVER:
        p.send("share", x)
        return None
    theirs: RingArray = await p.recv("share", x.spec)
    return x + theirs
