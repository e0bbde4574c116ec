"""Tests that share an engine or a port are kept in one process."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("a-group")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs everything")
def test_a_group_is_known_to_who_hands_out_the_tests(request: pytest.FixtureRequest) -> None:
    """With pytest 9.2 pytest-xdist 3.8 dropped its groups without a word."""
    assert request.node.nodeid.endswith("@a-group")
