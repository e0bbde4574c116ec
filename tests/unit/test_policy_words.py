"""Policies as people write them: what is shown in a form reads back as the same policy."""

from __future__ import annotations

from typing import Any

import pytest

from leasing import policy_terms
from leasing.schema.policy import PolicyIn, PolicyOut
from leasing.settings.limits import LimitSettings
from web.policy_form import Typed


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("all", {}),
        ("projects/vision", {"window_seconds": 0, "warnings": [], "retention_seconds": 0}),
        ("environments/team/lab:1", {"window_seconds": 93_784, "learned": True, "longest_seconds": 200_001}),
        ("leases/train", {"action": "end", "warnings": [5_000, 61], "grace_seconds": 0, "protected_seconds": 90}),
        ("all", {"thresholds": {"cpu": 0.123456789, "network": 1_234_567.0}}),
        (
            "all",
            {"hours": {"days": ["mon", "sat", "sun"], "begin": "22:00", "end": "06:30", "zone": "Asia/Tokyo"}},
        ),
    ],
)  # fmt: skip
def test_a_form_that_is_sent_as_it_came_changes_nothing(subject: str, said: dict[str, Any]) -> None:
    asked = PolicyIn.model_validate(said)
    columns = policy_terms.columns(asked, LimitSettings())
    rule = policy_terms.rule_out(policy_terms.rule("house", subject, columns))
    shown = PolicyOut(**rule.model_dump(), set=list(said), windows=[], updated_at=None)
    typed = Typed.of(shown)
    kind, _, name = subject.partition("/")
    whom = {kind.removesuffix("s"): name} if name else {}
    assert typed.policy() == PolicyIn.model_validate(said | whom)
    assert typed.name == "house"
