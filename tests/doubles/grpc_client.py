"""A gRPC client that knows nothing of Ostria: calls a target, and says on its output who answered.

    python grpc_client.py TARGET          with GRPC_XDS_BOOTSTRAP in its environment

Each line on its input is an order: `N` makes N calls and says who answered how many; `until NAME` calls until NAME has
not answered for 300 calls in a row, and says what the codes were.
"""

from __future__ import annotations

import collections
import json
import sys

import grpc
import grpc.experimental

CALM = 300


def main(target: str) -> None:
    credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
    with grpc.secure_channel(target, credentials) as channel:
        who = channel.unary_unary("/test.Who/Is")

        def call() -> str:
            try:
                return bytes(who(b"", timeout=20, wait_for_ready=True)).decode()
            except grpc.RpcError as error:
                return f"{error.code().name}: {error.details()}"

        for line in sys.stdin:
            found: collections.Counter[str] = collections.Counter()
            if line.startswith("until "):
                gone, calm = line.split()[1], 0
                while calm < CALM:
                    answer = call()
                    found[answer] += 1
                    calm = 0 if answer == gone else calm + 1
            else:
                found.update(call() for _ in range(int(line)))
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
