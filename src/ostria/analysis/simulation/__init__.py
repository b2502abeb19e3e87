"""What becomes of a call, found out without making it: the very resources that Envoy is sent, evaluated.

    engine, a proxy's traits -> Holdings -> resolve(call) -> Outcome

`simulate` names the objects that decided besides. Nothing is guessed: what mesh/ and envoy/ decide is read from the
bytes that they come to, and how Envoy reads those is compared with a real Envoy in the tests.
"""

from ostria.analysis.simulation.call import (
    Answer,
    Call,
    CallMode,
    CallProtocol,
    CallTls,
    Chance,
    Failure,
    Outcome,
    Request,
    Share,
)
from ostria.analysis.simulation.holdings import Holdings
from ostria.analysis.simulation.resolve import resolve

__all__ = [
    "Answer",
    "Call",
    "CallMode",
    "CallProtocol",
    "CallTls",
    "Chance",
    "Failure",
    "Holdings",
    "Outcome",
    "Request",
    "Share",
    "resolve",
]
