"""Gateways from outside: `tls-check` tells what a client of a TLS server sees, and what is to be said of it.

Any server can be examined, not only this mesh's. Exit codes: 0 for grade B and better, 79 for less, 69 where nothing
answers or nobody speaks TLS, 124 where it takes too long.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostria.cli.errors import CliError, Exit, bad_input, unavailable, usage
from ostria.cli.main import Context

if TYPE_CHECKING:
    from ostria.analysis.tls_check import Grade, Report
    from ostria.apps.tls_check import Target

_COLOURS = {"A": "green", "A-": "green", "B": "yellow"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("tls-check", help="what a client of a TLS server sees, with a grade")
    check.add_argument("server", metavar="HOST[:PORT]", help="whom to examine; the port is 443 unless given")
    check.add_argument("--sni", metavar="NAME", help="the name to ask for, where it is not HOST")
    check.add_argument("--address", metavar="ADDRESS", help="where to connect to, instead of looking HOST up")
    check.add_argument("--resolve", metavar="HOST:PORT:ADDRESS", help="the same, as curl has it")
    check.add_argument("--ca-file", metavar="FILE", help="whom to trust (PEM), instead of this machine's authorities")
    check.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="how long it may take (30)")
    check.add_argument("-o", "--output", choices=["json"], default="", help="one document")


def run(args: argparse.Namespace, context: Context) -> int:
    """Examine a server."""
    from ostria.apps.tls_check import Unreachable, examine

    target = _target(args)
    place = f"{target.host}:{target.port}" + (f" ({target.address})" if target.address != target.host else "")
    try:
        report = asyncio.run(_within(args.timeout, examine(target)))
    except TimeoutError:
        raise CliError(f"it took longer than {args.timeout:g} s", place, "--timeout", Exit.TIMEOUT) from None
    except Unreachable as error:
        raise unavailable(str(error), place) from None
    import datetime

    from ostria.analysis.tls_check import grade

    found = grade(report, datetime.datetime.now(datetime.UTC))
    if args.output == "json":
        context.output.document("TlsCheck", fields(report, found))
    else:
        _show(report, found, context)
    return Exit.OK if found.is_good else Exit.ANALYSIS


async def _within(seconds: float, work: Any) -> Any:
    async with asyncio.timeout(seconds):
        return await work


def _target(args: argparse.Namespace) -> Target:
    from ostria.apps.tls_check import Target

    host, port = _host_and_port(args.server)
    address = args.address or host
    if args.resolve:
        parts = args.resolve.split(":", 2)
        if len(parts) != 3 or not parts[2] or (parts[0], parts[1]) != (host, str(port)):
            raise usage(f'--resolve "{args.resolve[:100]}" is not {host}:{port}:ADDRESS')
        address = parts[2].strip("[]")
    if args.timeout <= 0:
        raise usage("--timeout must be more than nothing")
    if args.ca_file:
        _check_roots(args.ca_file)
    name = args.sni if args.sni is not None else host
    try:
        sni = "" if _is_address(name) else name.rstrip(".").encode("idna").decode()
    except UnicodeError:
        raise usage(f'"{name[:100]}" is no host name') from None
    if len(sni) > 253 or any(char.isspace() or not char.isprintable() for char in sni):
        raise usage(f'"{name[:100]}" is no host name')
    return Target(host, port, address, sni, args.ca_file or "")


def _host_and_port(text: str) -> tuple[str, int]:
    if "://" in text:
        raise usage(f'"{text[:100]}" is an address of the web', f"name the host alone: {text.split('/')[2][:100]}")
    host, port = text, "443"
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise usage(f'"{text[:100]}" is not [ADDRESS]:PORT')
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise usage(f'"{text[:100]}" is not HOST or HOST:PORT')
    return host, int(port)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_roots(file: str) -> None:
    import ssl

    if not Path(file).is_file():
        raise bad_input("there is no such file", file)
    try:
        ssl.create_default_context(cafile=file)
    except (ssl.SSLError, OSError):
        raise bad_input("the file holds no certificates in PEM", file) from None


# --- what is printed ----------------------------------------------------------------------------------------------


def fields(report: Report, found: Grade) -> dict[str, Any]:
    """The document of `-o json`."""
    from ostria.analysis.tls_check import short_name

    return {
        "server": {"host": report.host, "port": report.port, "address": report.address, "serverName": report.sni},
        "grade": found.letter,
        "reasons": [{"cap": each.cap or None, "text": each.text} for each in found.reasons],
        "protocols": [
            {
                "version": each.version.title,
                "cipherSuites": [{"name": short_name(suite), "standardName": suite} for suite in each.suites],
                "serverOrder": each.own_order,
            }
            for each in report.offered
        ],
        "groups": list(report.groups),
        "alpn": list(report.alpn),
        "clientCertificate": report.client_certificate.name.lower(),
        "trusted": not report.distrust and bool(report.chain),
        "distrust": report.distrust,
        "ocspStapling": report.stapled,
        "withoutServerName": report.without_name,
        "otherServerName": report.other_name,
        "notes": list(report.notes),
        "certificates": [
            {
                "subject": each.subject,
                "issuer": each.issuer,
                "names": list(each.names),
                "notBefore": each.not_before.isoformat(),
                "notAfter": each.not_after.isoformat(),
                "key": each.key,
                "signature": each.signature,
                "serialNumber": each.serial,
            }
            for each in report.chain
        ],
    }


def _show(report: Report, found: Grade, context: Context) -> None:
    from ostria.analysis.tls_check import short_name

    output = context.output
    asked = f", asked for {report.sni}" if report.sni and report.sni != report.host else ""
    output.data(f"{report.host}:{report.port} at {report.address}{asked}")
    output.data(f"grade {output.paint(found.letter, _COLOURS.get(found.letter, 'red'))}")
    for reason in found.reasons:
        output.data(f"  {reason.cap or '-':<3}{reason.text}")
    for each in report.offered:
        order = {True: " (in the server's order)", False: " (in the client's order)", None: ""}[each.own_order]
        output.data(f"{each.version.title}{order}")
        for suite in each.suites:
            output.data(f"  {short_name(suite)}")
    output.data(f"groups: {', '.join(report.groups) or '-'}")
    output.data(f"ALPN: {', '.join(report.alpn) or '-'}")
    output.data(f"client certificate: {report.client_certificate}")
    output.data(f"OCSP stapling: {report.stapled or 'no'}")
    if report.without_name:
        output.data(f"without a server name: {report.without_name}")
    output.data(f"for a name that is not served: {report.other_name}")
    for number, own in enumerate(report.chain):
        output.data(f"certificate {number}: {own.subject or '-'}")
        output.data(f"  issuer:  {own.issuer or '-'}")
        if own.names:
            output.data(f"  names:   {', '.join(own.names)}")
        output.data(f"  valid:   {own.not_before:%Y-%m-%d %H:%M} to {own.not_after:%Y-%m-%d %H:%M} UTC")
        output.data(f"  key:     {own.key}, signed with {own.signature or '-'}")
    for note in report.notes:
        output.data(f"note: {note}")
