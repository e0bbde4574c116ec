"""Pools of waiting containers, from the SDK and the command line to their rows."""

from __future__ import annotations

import pytest

from leasing import Client, errors
from tests.support.cluster import IMAGE


def test_admins_say_what_is_kept_warm(root: Client) -> None:
    assert root.admin.warm().pools == []
    made = root.admin.keep_warm(IMAGE, 2)
    assert (made.image, made.node, made.gpu, made.count, made.cpus, made.memory_bytes, made.ready) == (
        IMAGE, None, None, 2, 1, 2 * 2**30, 0,
    )  # fmt: skip
    assert root.admin.keep_warm(IMAGE, 3, cpus="0.5", memory="64M").cpus == 0.5, "the same one, changed"
    root.admin.keep_warm(IMAGE, node="local", gpu="A100")
    assert [(one.count, one.node, one.gpu) for one in root.admin.warm().pools] in (
        [(3, None, None), (1, "local", "A100")],
        [(1, "local", "A100"), (3, None, None)],
    )
    root.admin.remove_warm(IMAGE)
    assert [one.gpu for one in root.admin.warm().pools] == ["A100"]
    with pytest.raises(errors.NotFound, match="on every node"):
        root.admin.remove_warm(IMAGE)


def test_what_cannot_be_is_refused(root: Client, ada: Client) -> None:
    with pytest.raises(errors.NotFound, match="no node 'nowhere'"):
        root.admin.keep_warm(IMAGE, node="nowhere")
    with pytest.raises(errors.Invalid, match="less than the 16M"):
        root.admin.keep_warm(IMAGE, memory="1M")
    with pytest.raises(errors.Invalid):
        root.admin.keep_warm(IMAGE, 65)
    with pytest.raises(errors.NotAllowed):
        ada.admin.keep_warm(IMAGE)
