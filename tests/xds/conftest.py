"""Asserts of the shared doubles are explained as those of tests are; gRPC is told that children only exec."""

import os

import pytest

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
pytest.register_assert_rewrite("doubles.ads_playbook")
