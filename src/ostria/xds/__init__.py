"""ADS, delta and state of the world: who asks for what, what they get and in which order, and what they refuse.

    engine watches -> views (who must hear) -> delivery (what, in which order) -> protocol (nonces) -> server (gRPC)
                                                   |
                                                   +-- refusal (whose fault is a NACK)

Everything but `server` is sans-io: events in, commands out, time passed in. This room never knows what an Istio kind
is: it moves encoded fragments by type and name, and it blames objects by their key.
"""

from ostria.xds.callers import Identity, Node, Verified, Verifier
from ostria.xds.delivery import Close, Delivery, Send
from ostria.xds.enforcement import Enforcement
from ostria.xds.protocol import Limits
from ostria.xds.refusal import Quarantine, Verdicts
from ostria.xds.views import Catalogue, Scope

__all__ = [
    "Catalogue",
    "Close",
    "Delivery",
    "Enforcement",
    "Identity",
    "Limits",
    "Node",
    "Quarantine",
    "Scope",
    "Send",
    "Verdicts",
    "Verified",
    "Verifier",
]
