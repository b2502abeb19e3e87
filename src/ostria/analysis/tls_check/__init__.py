"""What a TLS server shows to a client that does not know it: offered versions and suites, chain, names, and a grade.

    client_hello -> bytes -> (a socket, elsewhere) -> Flight: what the server answered -> Report -> grade(report, now)

Hellos are written and answers read here, byte by byte, because a TLS library offers only what it thinks well of: this
one must find out what a server does that nobody should. Nothing here opens a connection; `apps.tls_check` does.
"""

from ostria.analysis.tls_check.chain import Certificate, is_for, read_chain, stapled_status
from ostria.analysis.tls_check.flight import Answer, Ending, Flight, Malformed
from ostria.analysis.tls_check.hello import GROUPS, Chance, Version, client_hello, record
from ostria.analysis.tls_check.report import ClientCertificate, Grade, Offered, Report, grade
from ostria.analysis.tls_check.suites import OLDER, TLS13, short_name

__all__ = [
    "GROUPS",
    "OLDER",
    "TLS13",
    "Answer",
    "Certificate",
    "Chance",
    "ClientCertificate",
    "Ending",
    "Flight",
    "Grade",
    "Malformed",
    "Offered",
    "Report",
    "Version",
    "client_hello",
    "grade",
    "is_for",
    "read_chain",
    "record",
    "short_name",
    "stapled_status",
]
