"""Programs that are compiled when a benchmark runs, into target/bench."""

import functools
import pathlib
import subprocess

from . import HERE, ROOT
from .processes import Fault, run, say

FOLDER = ROOT / "target/bench"


@functools.cache
def compiled(source: pathlib.Path) -> pathlib.Path:
    """A C file's program. It is built anew when the file is newer."""
    program = FOLDER / source.stem
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        run("cc", "-O2", "-Wall", "-Wextra", "-o", program, source, "-lm", limit=120)
    return program


def backend_program() -> pathlib.Path:
    return compiled(HERE / "backend.c")


def rate_program() -> pathlib.Path:
    return compiled(HERE / "rate.c")


def build_cloakroom() -> None:
    say("building Cloakroom")
    run("cargo", "build", "--release", "--locked", "--manifest-path", ROOT / "Cargo.toml", limit=3600)


def build_with_profile() -> None:
    say("building Cloakroom with a profile")
    if subprocess.run([ROOT / "scripts/build-pgo"], check=False).returncode:
        raise Fault("there is no build with a profile; --no-profile measures without")


RELEASE = ROOT / "target/release/cloakroom"
# What scripts/build-pgo makes.
PGO = ROOT / "target/pgo/cloakroom"
