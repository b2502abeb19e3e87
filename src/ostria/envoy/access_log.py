"""What a proxy writes of each request and connection, when the mesh wants it: Istio's text format, into a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any as Untyped
from typing import NamedTuple

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog

from ostria.envoy.wire import packed

_FILE_LOG = "envoy.access_loggers.file"

# istio.io: Envoy Access Logs, "Default access log format".
TEXT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "
    "%ROUTE_NAME%\n"
)


class LogFile(NamedTuple):
    """Where lines go (MeshConfig.accessLogFile) and what they look like: JSON where `json` says what it holds."""

    path: str
    text: str = TEXT_FORMAT
    json: tuple[tuple[str, str], ...] = ()


def access_log(log: LogFile) -> AccessLog:
    """A line for each request or connection."""
    file = FileAccessLog(path=log.path)
    if log.json:
        fields: Mapping[str, str] = dict(log.json)
        file.log_format.json_format.update(fields)
    else:
        file.log_format.text_format_source.inline_string = log.text
    return AccessLog(name=_FILE_LOG, typed_config=packed(file))


def unmatched_access_log(log: LogFile) -> Untyped:
    """A line for each connection that no filter chain takes: it ends before any filter could log it."""
    message = access_log(log)
    message.filter.response_flag_filter.flags.append("NR")
    return message
