"""Who may do what with a lease: the whole table, and what the refused are told."""

from __future__ import annotations

from itertools import product

import pytest

from leasing import access
from leasing.access import Action, Refusal, Scope, Standing
from leasing.states import ProjectRole

NOTHING = ""
ALL = "see call enter change release share"
TABLE = {
    # owner, admin, role in its project, shared
    (False, False, None, False): NOTHING,
    (False, False, None, True): NOTHING,
    (False, False, ProjectRole.VIEWER, False): NOTHING,
    (False, False, ProjectRole.VIEWER, True): "see call",
    (False, False, ProjectRole.DEVELOPER, False): NOTHING,
    (False, False, ProjectRole.DEVELOPER, True): "see call enter change",
    (False, False, ProjectRole.OWNER, False): "see",
    (False, False, ProjectRole.OWNER, True): ALL,
}
"""Who asked for a lease, and admins, may do all of it, whatever else they are."""


@pytest.mark.parametrize(("owner", "admin"), list(product((False, True), repeat=2)))
@pytest.mark.parametrize("role", [None, *ProjectRole])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scope", Scope)
def test_every_standing_may_do_what_the_table_says(
    owner: bool, admin: bool, role: ProjectRole | None, shared: bool, scope: Scope
) -> None:
    may = ALL if owner or admin else TABLE[False, False, role, shared]
    if scope is Scope.THIS:
        may = "call" if "call" in may else NOTHING
    elif scope is Scope.OTHER:
        may = NOTHING
    assert " ".join(access.may(Standing(owner, admin, role, shared, scope))) == may


@pytest.mark.parametrize(
    ("action", "standing", "refusal", "said"),
    [
        (Action.SEE, Standing(False, False, None, True), Refusal.SOMEBODY_ELSES, "somebody else's"),
        (Action.CALL, Standing(False, False, ProjectRole.VIEWER, False), Refusal.NOT_SHARED, "not shared"),
        (Action.CALL, Standing(False, False, ProjectRole.OWNER, False), Refusal.NOT_SHARED, "lease share nb"),
        (Action.ENTER, Standing(False, False, ProjectRole.VIEWER, True), Refusal.ROLE, "takes developer"),
        (Action.RELEASE, Standing(False, False, ProjectRole.DEVELOPER, True), Refusal.ROLE, "--role owner"),
        (Action.ENTER, Standing(True, False, None, False, Scope.THIS), Refusal.ENDPOINT_ONLY, "nothing else"),
        (Action.CALL, Standing(True, True, None, True, Scope.OTHER), Refusal.OTHER_LEASE, "another lease"),
    ],
)
def test_the_refused_are_told_why_and_what_would_help(
    action: Action, standing: Standing, refusal: Refusal, said: str
) -> None:
    assert access.decide(action, standing) is refusal
    assert said in " ".join(access.words(refusal, action, "nb"))
