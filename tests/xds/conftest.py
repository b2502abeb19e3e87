"""Asserts of the shared doubles are explained as those of tests are."""

import pytest

pytest.register_assert_rewrite("doubles.ads_playbook")
