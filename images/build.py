"""Building an environment on an engine that lacks it."""

from __future__ import annotations

import secrets

from images import debian, lent
from images.catalogue import Environment, load
from leasing.drivers.protocol import Image, Lifecycle, Progress

STAGE = "leasing.stage"
"""Label of a build's first stage: one build removes its own, and leaves another's alone."""


def ensure(engine: Lifecycle, environment: Environment, progress: Progress) -> Image:
    """The environment's image on that engine, built (and what it builds on) if it is absent.

    Raises `DriverError` with the step that failed, `HostError` where the first layer can be had in no way.
    """
    found = engine.find_image(environment.reference)
    if found is not None:
        return found
    if environment.parent is not None:
        base = load()[environment.parent]
        ensure(engine, base, progress)
        base_reference = base.reference
    else:
        base_reference = debian.ensure(engine, progress)
    progress(f"building {environment.name}")
    stage = secrets.token_hex(4)
    try:
        return engine.build_image(
            environment.folder,
            tag=environment.reference,
            build_args={"BASE": base_reference, "STAGE": stage, **lent.proxies()},
            labels={},
            extra_files=lent.files(),
            progress=progress,
        )
    finally:
        for image in engine.images():
            if image.labels.get(STAGE) == stage and not image.tags:
                engine.remove_image(image.id)
