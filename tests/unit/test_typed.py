"""What of a terminal's bytes a person typed."""

from __future__ import annotations

import pytest

from api.streams.typed import typed


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"ls\r", 3),
        (b"\x03", 1),
        ("grüße".encode(), 7),
        (b"\x1b[A", 3),  # an arrow key
        (b"\x1b[200~pasted\x1b[201~", 18),
        (b"\x1b[I", 0),  # the window gained the focus
        (b"\x1b[O", 0),
        (b"\x1b[24;80R", 0),  # where the cursor is
        (b"\x1b[?1;2c", 0),  # what kind of terminal this is
        (b"\x1b[>0;276;0c", 0),
        (b"\x1b[0n", 0),
        (b"\x1b]11;rgb:0000/0000/0000\x07", 0),
        (b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\", 0),
        (b"\x1b[Ia\x1b[O", 1),
        (b"", 0),
    ],
)
def test_a_terminals_own_answers_are_not_typed(data: bytes, count: int) -> None:
    assert typed(data) == count
