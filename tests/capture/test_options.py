"""The init step's options say what the capture is, and are read back as it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.capture.options import arguments, read_arguments
from ostria.capture.settings import Capture, Mode, marked

PORTS = st.lists(st.integers(1, 9999), max_size=3, unique=True).map(tuple)
RANGES = st.lists(
    st.sampled_from([ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8", "1.2.3.4/32")]), max_size=2
).map(tuple)
CAPTURES = st.builds(
    Capture,
    mode=st.sampled_from(Mode),
    inbound_ports=PORTS | st.just("*"),
    inbound_ports_exclude=PORTS,
    outbound_ports=PORTS,
    outbound_ports_exclude=PORTS,
    outbound_ranges=RANGES | st.just("*"),
    outbound_ranges_exclude=RANGES,
    interfaces_exclude=st.just(("eth1", "net1")) | st.just(()),
    interfaces_reroute=st.just(("net2",)) | st.just(()),
    proxy_uids=st.just((1337,)) | st.just((1500,)),
    proxy_gids=st.just((1337,)) | st.just((1501,)),
    dns_servers=st.just("*") | st.just(()) | st.just((ipaddress.ip_address("10.0.0.10"),)),
)


@given(CAPTURES)
def test_options_are_read_back(capture: Capture) -> None:
    assert read_arguments([*arguments(capture), "--log_output_level=default:info"]) == capture


def test_the_mark_of_one_machine_is_an_option() -> None:
    capture = marked()
    assert read_arguments(arguments(capture)) == capture


@pytest.mark.parametrize("given", [["-p"], ["-p", "x"], ["--unknown", "1"], ["-m", "SOMEHOW"], ["-i", "10.0.0.0/99"]])
def test_options_that_are_none(given: list[str]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_arguments(given)
