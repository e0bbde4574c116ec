"""The virtual environment, made from nothing: `python3 -I leasing/host/bootstrap.py [--dev]`.

Runs on the machine's own Python before anything is installed, hence only the standard library and no imports of ours.
Done once, it costs a few milliseconds; a changed requirements file, interpreter or checkout path makes it run again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
NEWER_NAMES = ("python3.13", "python3.12", "python3.11", "python3.14")

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the virtual environment.")
    parser.add_argument("--dev", action="store_true", help="with what the tests and checks need")
    options = parser.parse_args(arguments)
    use_new_enough_python()
    # Two makes at once (a run and a test) take turns; a lock on the file itself leaves nothing behind.
    with (ROOT / "requirements.txt").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            prepare(dev=options.dev)
        except subprocess.CalledProcessError as failed:
            print(f"!! This failed: {' '.join(map(str, failed.cmd))}", file=sys.stderr)
            return 1
    return 0


def prepare(*, dev: bool) -> None:
    """Brings the environment up to date; a second call does nothing."""
    requirements = ROOT / ("requirements-dev.txt" if dev else "requirements.txt")
    stamp = VENV / f"{requirements.stem}.stamp"
    wanted = fingerprint(requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if not environment_works():
        make_environment()
    say(f"Installing the Python packages of {requirements.name}, pinned by hash, into .venv")
    pip: list[str | Path] = [
        VENV / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    run([*pip, "--require-hashes", "--requirement", requirements])
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT])
    stamp.write_text(wanted)
    if dev:
        # What the tests need contains what a run needs.
        plain = ROOT / "requirements.txt"
        (VENV / f"{plain.stem}.stamp").write_text(fingerprint(plain))


def fingerprint(requirements: Path) -> str:
    """Changes when an installation has to be done again: other pins, other metadata, other Python, a moved checkout."""
    digest = hashlib.sha256(requirements.read_bytes())
    digest.update((ROOT / "pyproject.toml").read_bytes())
    digest.update(f"{sys.version_info[:3]} {ROOT}".encode())
    return digest.hexdigest() + "\n"


def environment_works() -> bool:
    """Whether `.venv` holds a working interpreter of this version, with pip."""
    python = VENV / "bin" / "python"
    probe = "import sys, pip; print(sys.version_info[:2], sys.prefix)"
    expected = f"{sys.version_info[:2]} {VENV}"
    try:
        answer = subprocess.run([python, "-I", "-c", probe], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.stdout.strip() == expected


def make_environment() -> None:
    if VENV.exists():
        if not (VENV / "pyvenv.cfg").is_file():
            sys.exit(
                f"!! {VENV} is in the way and is no virtual environment. Move it away, then run this again."
            )
        say("Removing the old .venv, which no longer works here")
        shutil.rmtree(VENV)
    if not can_make_environments():
        install_venv_package()
    say(f"Making a virtual environment in .venv (Python {sys.version.split()[0]})")
    run([sys.executable, "-m", "venv", VENV])


def can_make_environments() -> bool:
    """Debian splits `ensurepip` out of Python, so that venv is there but fails."""
    probe = [sys.executable, "-c", "import ensurepip, venv"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


def install_venv_package() -> None:
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if shutil.which("apt-get") is None:
        sys.exit(
            f"!! {sys.executable} cannot make virtual environments (no ensurepip). Install it, then try again."
        )
    if os.geteuid() != 0:
        sys.exit(
            f"!! {package} is missing. Install it, then run this again:\n\n     sudo apt-get install {package}\n"
        )
    say(f"Installing {package} from the distribution")
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], quietly)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], quietly)


def use_new_enough_python() -> None:
    """Goes on under a newer Python of this machine where the default one is too old."""
    if sys.version_info >= OLDEST:
        return
    for name in NEWER_NAMES:
        python = shutil.which(name)
        if python:
            os.execv(python, [python, "-I", *sys.argv])
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        f"!! Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {found}. Install python3.11 or newer."
    )


def say(step: str) -> None:
    print(f":: {step}", flush=True)


def run(command: list[str | Path], environment: dict[str, str] | None = None) -> None:
    # What a package manager prints is for when it fails; its errors come through on stderr.
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
