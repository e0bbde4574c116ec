"""Being somebody else for a moment: what a user without root meets is decided by the kernel, not by a patch."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from leasing.errors import LeasingError

NOBODY = 65534


def as_nobody(function: Callable[[], object]) -> str:
    """What the function returns or which error it raises, as text, run by a user without any right. Needs root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said, code = "", 1
        try:
            os.close(reading)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            said, code = str(function()), 0
        except LeasingError as error:
            said, code = f"{type(error).__name__}: {error}", 0
        finally:
            # never back into the test run, which is not ours
            os.write(writing, (said or traceback.format_exc()).encode())
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, said
    return said
