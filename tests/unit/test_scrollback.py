"""What is left of a terminal's output."""

from __future__ import annotations

from api.streams.scrollback import BACK, FULL_SCREEN, Scrollback


def test_the_last_of_it_is_kept_and_positions_stay() -> None:
    printed = Scrollback(10)
    for word in (b"aaaa", b"bbbb", b"cccc"):
        printed.add(word)
    assert (printed.begin, printed.end) == (4, 12)
    assert printed.whole() == b"bbbbcccc"
    assert printed.since(6) == b"bbcccc"
    assert printed.since(12) == b""
    assert printed.since(0) == b"bbbbcccc"


def test_one_piece_is_kept_however_large() -> None:
    printed = Scrollback(10)
    printed.add(b"x" * 50)
    assert len(printed.whole()) == 50


def test_a_program_that_has_the_screen_has_it_again() -> None:
    printed = Scrollback(10)
    had = [printed.full_screen]
    for piece in (FULL_SCREEN + b"an editor", b"0123456789"):
        printed.add(piece)
        had.append(printed.full_screen)
    assert printed.whole() == FULL_SCREEN + b"0123456789"
    printed.add(BACK)
    had.append(printed.full_screen)
    assert had == [False, True, True, False]
    printed.add(b"x" * 10)
    assert printed.whole() == b"x" * 10
