"""gRPC is told that children only exec."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
