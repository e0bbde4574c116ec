"""What is generated is what stands in docs/."""

from __future__ import annotations

import pytest

from tests.docs.generated import DOCS, GENERATED


@pytest.mark.parametrize("name", GENERATED)
def test_the_document_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == GENERATED[name](), "run: make docs"
