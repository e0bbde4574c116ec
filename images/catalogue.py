"""What there is to choose from: one folder an environment, and how a user's `--image` becomes an image's name."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from leasing.errors import HostError

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Environment:
    """An entry of the catalogue. `parent` is the environment it builds on, if any."""

    name: str
    title: str
    description: str
    folder: Path
    parent: str | None
    port: int | None
    smoke: str
    inside: bool = False
    """What listens at its port is a way into the lease, as a notebook is."""

    @property
    def reference(self) -> str:
        """Its image's name: the tag is the content's hash, so an unchanged environment is never built twice."""
        digest = hashlib.sha256()
        if self.parent is not None:
            digest.update(load()[self.parent].reference.encode())
        for file in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            digest.update(file.relative_to(self.folder).as_posix().encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return f"leasing/{self.name}:{digest.hexdigest()[:12]}"


@dataclass(frozen=True)
class Resolved:
    """What a user's word for an image means: an environment of ours, or a reference for a registry."""

    reference: str
    environment: Environment | None


@cache
def load() -> dict[str, Environment]:
    """The catalogue by name. Raises `HostError` for an entry that cannot be read."""
    return {path.parent.name: _read(path) for path in sorted(ROOT.glob("*/environment.toml"))}


def resolve(image: str) -> Resolved:
    """An environment's name means that environment; anything else is taken as a registry reference, as it is."""
    environment = load().get(image)
    return Resolved(environment.reference, environment) if environment else Resolved(image, None)


def _read(path: Path) -> Environment:
    try:
        entry = tomllib.loads(path.read_text())
        return Environment(
            name=path.parent.name,
            title=entry["title"],
            description=entry["description"],
            folder=path.parent,
            parent=entry.get("from"),
            port=entry.get("port"),
            inside=entry.get("inside", False),
            smoke=entry["smoke"],
        )
    except (KeyError, tomllib.TOMLDecodeError) as error:
        raise HostError(f"The environment in {path} cannot be read: {error!r}.") from error
