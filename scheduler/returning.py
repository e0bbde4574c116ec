"""Bringing back the files of a lease that goes on: as an image of the container before, on the node it has now."""

from __future__ import annotations

import logging
from dataclasses import replace
from uuid import UUID

from leasing.drivers.protocol import (
    KEPT,
    LABEL_INSTALLATION,
    LABEL_LEASE,
    LABEL_ROLE,
    Image,
    Lifecycle,
    Progress,
)
from leasing.drivers.spec import LeaseFacts
from leasing.errors import ContainerGone, DriverError, EngineDown, FilesGone, LeasingError
from scheduler.fleet import Fleet
from scheduler.jobs import Job, Kept

log = logging.getLogger(__name__)
DEEPEST = 120
"""An image of so many layers is not gone on from: engines refuse to lay more than some 125 upon each other."""


def bring_back(
    fleet: Fleet, job: Job, engine: Lifecycle, container: str, progress: Progress
) -> tuple[LeaseFacts, Image]:
    """What the new container is made of, from the files in `container`. Idempotent: what exists already is taken.

    Raises `FilesGone`, `LeasingError` for files that cannot be moved to another node.
    """
    if job.kept.node_id is None:
        raise LeasingError("It is not known which node keeps its files.")
    if job.kept.node_id != job.node[0]:
        return _moved(fleet, job, job.kept.node_id, engine, container, progress)
    progress("bringing back its files")
    image = _image(job, engine, container, progress)
    # somebody else may have removed it since its files were kept: they are what counts
    follows = container if engine.inspect(container) is not None else None
    return replace(job.facts, image=job.image, follows=follows), image


def forget(fleet: Fleet, job: Job, engine: Lifecycle) -> None:
    """The new container runs: the one before it and the image it was made from go, now or at the next sweep."""
    kept: Kept = job.kept
    try:
        moved = kept.node_id is not None and kept.node_id != job.node[0]
        before = fleet.engine(kept.node_id) if moved and kept.node_id is not None else engine
        before.remove(str(kept.container), network=None)
        if kept.image is not None:
            before.remove_image(kept.image)
        if moved:
            before.remove_image(job.image)
    except DriverError as error:
        log.warning("left for the reconciler container=%s error=%s", kept.container, error)


def _moved(
    fleet: Fleet, job: Job, source: UUID, engine: Lifecycle, container: str, progress: Progress
) -> tuple[LeaseFacts, Image]:
    """From the node that is being drained, through this process, to the one that it has now."""
    facts = replace(job.facts, image=job.image)
    if (found := engine.find_image(job.image)) is not None:
        return facts, found
    try:
        before = fleet.engine(source)
        seen = before.inspect(container)
        own = f"leasing-{job.facts.installation}-"
        if seen is not None and (loose := [name for name in seen.volumes if not name.startswith(own)]):
            raise LeasingError(
                f"It has files in {len(loose)} volumes that its image declares; they stay on the node that it was on."
            )
        progress("moving its files from the node that keeps them")
        _image(job, before, container, progress)
        return facts, engine.load_image(before.save_image(job.image), tag=job.image)
    except EngineDown as error:
        raise DriverError(
            f"The node that keeps its files, or the one it has now, is away: {error.message}"
        ) from error


def _image(job: Job, engine: Lifecycle, container: str, progress: Progress) -> Image:
    labels = {
        LABEL_INSTALLATION: job.facts.installation,
        LABEL_ROLE: KEPT,
        LABEL_LEASE: str(job.claim.lease_id),
    }
    try:
        image = engine.commit(container, tag=job.image, labels=labels)
        if image.layers >= DEEPEST:
            progress("making its files one layer again")
            image = engine.flatten(container, tag=job.image, labels=labels)
    except ContainerGone as error:
        raise FilesGone(f"The container {container} with its files is gone.") from error
    return image
