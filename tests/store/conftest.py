"""The passes over bytes in C, compiled from their present source, whatever is installed."""

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from holdfast.store import planes

SOURCE = Path(planes.__file__).with_name("_native.c")
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


@pytest.fixture(scope="session", name="build")
def find_compiler(tmp_path_factory):
    """Return what compiles the extension with some flags, where any warning fails."""
    compiler = shutil.which("cc")
    headers = Path(sysconfig.get_path("include"))
    if compiler is None or not (headers / "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python")

    def build(*flags):
        built = tmp_path_factory.mktemp("native") / "_native.abi3.so"
        command = [compiler, "-shared", "-fPIC", *WARNINGS, *flags, f"-I{headers}", SOURCE]
        subprocess.run([*command, "-o", built, "-ldl"], check=True)
        return built

    return build


@pytest.fixture(scope="session", name="native")
def compile_native(build):
    return loaded(build("-O2"))


@pytest.fixture(scope="session", name="narrow")
def compile_narrow(build):
    """Return the extension as it is on processors without AVX2."""
    return loaded(build("-O1", "-DNARROW"))


def loaded(built):
    loader = importlib.machinery.ExtensionFileLoader("holdfast.store._native", str(built))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["in C", "by numpy"])
def passes(request):
    """Do the module's tests with the extension and without it."""
    native = request.getfixturevalue("native") if request.param == "in C" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "native", native)
        yield
