"""Compile what makes coding and hashing fast, where there is a C compiler; else nothing is missing.

Hatchling runs this when it builds a wheel and when it installs for editing. A wheel that holds the
extension serves every Python from 3.11 on this kind of machine; one without it serves all machines.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE: Final = Path("src/holdfast/store/_native.c")
BUILT: Final = SOURCE.with_suffix(".abi3.so")
SECONDS: Final = 120


class Native(BuildHookInterface[Any]):
    """Adds the extension to a wheel where it could be compiled."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile; hatchling calls this with what the wheel is to hold."""
        root = Path(self.root)
        (root / BUILT).unlink(missing_ok=True)  # one of an older source would be worse than none
        if compiled(root / SOURCE, root / BUILT):
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp311-abi3-{platform}"
            build_data["pure_python"] = False
            build_data["artifacts"].append(str(BUILT))


def compiled(source: Path, target: Path) -> bool:
    """Say whether the extension was made; whatever a compiler lacks, it was not."""
    if sys.implementation.name != "cpython":
        return False  # others load no extension that is made for all versions
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    flags = ["-std=c11", "-O3", "-fPIC", "-fvisibility=hidden"]
    link = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    command = [*shlex.split(compiler), *flags, *link, f"-I{sysconfig.get_path('include')}"]
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        subprocess.run(  # noqa: S603 - the compiler that Python was built with, or the user's
            [*command, str(source), "-o", str(unfinished), "-ldl"],
            check=True,
            capture_output=True,
            timeout=SECONDS,
        )
        unfinished.replace(target)
    except (OSError, subprocess.SubprocessError):
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True
