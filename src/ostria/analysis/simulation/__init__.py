"""What becomes of a call, found out without making it: the very resources that Envoy is sent, evaluated.

    a URL and who calls it -> Call                                          places, callers
    engine, a proxy's traits -> Holdings -> resolve(call) -> Outcome        one proxy
    simulate(engine, traits, call) -> Trace                                 both ends, and whose doing it is

Nothing is guessed: what mesh/ and envoy/ decide is read from the bytes that they come to, and how Envoy reads those
is compared with a real Envoy in the tests.
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
from ostria.analysis.simulation.callers import UnknownWorkload, gateways, pod_of
from ostria.analysis.simulation.holdings import Holdings
from ostria.analysis.simulation.places import UrlError, call_to
from ostria.analysis.simulation.proxy import resolve
from ostria.analysis.simulation.telling import culprit, document, steps, told
from ostria.analysis.simulation.trace import Decider, Received, Trace, simulate

__all__ = [
    "Answer",
    "Call",
    "CallMode",
    "CallProtocol",
    "CallTls",
    "Chance",
    "Decider",
    "Failure",
    "Holdings",
    "Outcome",
    "Received",
    "Request",
    "Share",
    "Trace",
    "UnknownWorkload",
    "UrlError",
    "call_to",
    "culprit",
    "document",
    "gateways",
    "pod_of",
    "resolve",
    "simulate",
    "steps",
    "told",
]
