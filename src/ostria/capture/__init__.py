"""Which of a pod's packets go through its proxy: one plan, as data, for the init step, the agent and the node.

    annotations -> Capture -> plan() -> Plan -> apply.apply (nf_tables by netlink, or iptables)

The behaviour is that of Istio's iptables rules for the same settings. The proxy is told from its workload by the owner
of a socket or by a mark on it. Knows no mesh; `apply` alone touches the kernel and is imported by who needs it.
"""

from ostria.capture.packets import Outcome, Packet, verdict
from ostria.capture.plan import Family, Hook, Plan, plan
from ostria.capture.settings import Capture, Mode, marked, read_annotations

__all__ = [
    "Capture",
    "Family",
    "Hook",
    "Mode",
    "Outcome",
    "Packet",
    "Plan",
    "marked",
    "plan",
    "read_annotations",
    "verdict",
]
