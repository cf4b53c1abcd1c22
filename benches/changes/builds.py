"""Cloakroom as it was at some commit, or with other settings of the compiler."""

import dataclasses
import os
import pathlib
import shutil
import subprocess

from harness import ROOT
from harness.machine import first_line
from harness.native import FOLDER
from harness.processes import Fault, put, run, say

BUILDS = FOLDER / "changes"
# Those of one compiler.
BINARIES = BUILDS / first_line("rustc", "--version").replace(" ", "-")


@dataclasses.dataclass(frozen=True)
class Build:
    """A commit, and what is in the environment while it is built."""

    commit: str
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        settings = [f"{name.removeprefix('CARGO_PROFILE_RELEASE_').lower()}={value}" for name, value in self.environment]
        return "-".join([self.commit, *settings])

    @property
    def binary(self) -> pathlib.Path:
        return BINARIES / self.name


def build(wanted: Build) -> None:
    """Makes the binary unless it is there. All share one target directory, so that dependencies are compiled once."""
    if wanted.binary.exists():
        return
    say(f"building {wanted.name}")
    source = BUILDS / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    unpack(wanted.commit, source)
    command = ["cargo", "build", "--release", "--locked", "--bin", "cloakroom"]
    others = {name for name in os.environ if name.startswith("CARGO_PROFILE_") or name.endswith("RUSTFLAGS")}
    environment = {name: value for name, value in os.environ.items() if name not in others}
    environment |= dict(wanted.environment) | {"CARGO_TARGET_DIR": str(BUILDS / "target")}
    if subprocess.run(command, cwd=source, env=environment, check=False).returncode:
        raise Fault(f"{wanted.name} does not build")
    BINARIES.mkdir(exist_ok=True)
    put(BUILDS / "target/release/cloakroom", wanted.binary)


def unpack(commit: str, folder: pathlib.Path) -> None:
    """The files of a commit, all of them newer than whatever cargo built before: by that it knows that they changed."""
    archive = folder.with_suffix(".tar")
    try:
        run("git", "-C", ROOT, "archive", "--output", archive, commit, limit=60)
    except Fault as fault:
        raise Fault(f"{commit} is not in this copy; the whole history is needed (git fetch --unshallow)") from fault
    run("tar", "--extract", "--touch", "--file", archive, "--directory", folder, limit=60)
