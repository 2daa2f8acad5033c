"""A script: forges every fitted field of every estimator and uses what a load makes of it.

``python forgery_sklearn.py 'SVC*' --limit 200`` packs the matching cases of ``sklearn_zoo``,
replaces one thing at a time in their file form, reads each forged form as a load does and calls
every output method of what comes of it. It happens in forked processes that say beforehand what
they try, so that a crash names the very change and the run goes on after it. The last line is
``N mutations, R refused, H harmless, C crashes, S too slow, L too large``; the exit status is 1
unless the last three are 0 and every case could be packed.
"""

# ruff: noqa: E402 - threads are counted when a library is imported, and do not survive a fork
# ruff: noqa: PLW0108 - what an action looks up belongs to the action, which may fail

from __future__ import annotations

import argparse
import collections
import contextlib
import fnmatch
import importlib
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import joblib
import numpy as np
import sklearn_zoo as zoo
from forgery_tables import Draft, Lie, lies
from scipy import sparse
from sklearn.base import clone

from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from holdfast.errors import HoldfastError, Unsupported
from holdfast.frameworks import sklearn as adapter
from holdfast.frameworks.base import LoadOptions, Opened

SECONDS = 2.0  # of CPU that one forged form may take
PATIENCE = 300.0  # of the clock, for one that sleeps
MEMORY = 4 << 30  # of addresses; a form that asks for more is too large
GUARD = "FORGERY_GUARD"  # the folder of the compiled guard, where it is in force
ROWS = 12
ROOMS = (
    "cluster", "ensemble", "feature_extraction", "feature_extraction.text", "neighbors",
    "preprocessing", "random_projection", "svm",
)  # fmt: skip
ALSO = (
    "inverse_transform", "radius_neighbors", "staged_predict_proba", "staged_decision_function",
    "mahalanobis", "bic", "perplexity", "correct_covariance", "kneighbors_graph",
)  # fmt: skip
FACTS = (
    "feature_importances_", "coef_", "n_support_", "feature_names_in_",
    "infrequent_categories_", "components_", "get_depth", "get_n_leaves",
    "get_support", "sparsify", "sample", "get_covariance", "get_precision", "densify",
)  # fmt: skip
CONVERSE = ("predict", "decision_function", "transform", "apply", "decision_path", "kneighbors")


def some(inputs: Any) -> Any:
    """Return the first rows of a case's inputs."""
    return inputs.iloc[:ROWS] if hasattr(inputs, "iloc") else inputs[:ROWS]


def others(model: Any, inputs: Any) -> Iterator[Any]:
    """Yield inputs as a user of the forged model might give them: sparse, narrow, of its width."""
    if sparse.issparse(inputs):
        yield inputs.toarray()
    elif isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f" and inputs.ndim == 2:
        yield sparse.csr_matrix(np.nan_to_num(inputs))
        yield inputs.astype(np.float32)
    width = vars(model).get("n_features_in_") if hasattr(model, "__dict__") else None
    if type(width) is int and 0 < width < 64 and np.shape(inputs)[1:] not in ((width,), ()):
        given = np.resize(np.arange(97.0) % 7, (ROWS, width))
        yield sparse.csr_matrix(given) if sparse.issparse(inputs) else given


def use(model: Any, inputs: Any) -> str:
    """Go through every output method and whatever else reads what was fitted."""
    tried: list[Callable[[], object]] = [lambda: repr(model), lambda: clone(model)]
    tried += [lambda: model.get_params(), lambda: model.inverse_transform(model.transform(inputs))]
    tried += [lambda name=name: list(getattr(model, name)(inputs)) for name in ALSO]
    tried += [lambda name=name: getattr(model, name) for name in FACTS]
    tried += [lambda name=name: getattr(model, name)() for name in FACTS]
    if not vast(model):
        tried.append(lambda: model.get_feature_names_out())
    tried += [lambda name=name: list(getattr(model, name)(inputs)) for name in zoo.OUTPUTS]
    for given in others(model, inputs):
        tried += [lambda n=name, g=given: getattr(model, n)(g) for name in CONVERSE]
    tried += [lambda: model.dbscan_clustering(0.5), lambda: continue_fit(model, inputs)]
    outcome = "harmless"
    for action in tried:
        try:
            action()
        except MemoryError:
            outcome = "large"
        except Exception:  # noqa: BLE001 - a forged model may refuse to work
            continue
    return outcome


def vast(model: Any) -> bool:
    """Say whether naming each of its columns takes long in an honest model too."""
    for name in ("n_features_in_", "_n_features_out"):
        with contextlib.suppress(Exception):
            if getattr(model, name) > 100_000:
                return True
    return False


def continue_fit(model: Any, inputs: Any) -> None:
    if hasattr(model, "partial_fit"):
        target = zoo.CLASSES[:ROWS]
        takes_target = hasattr(model, "predict") and not hasattr(model, "transform")
        model.partial_fit(*((inputs, target) if takes_target else (inputs,)))


def attempt(draft: Draft, inputs: Any) -> str:
    """Read one forged form as a load does, use it, and say how that went."""
    structure, views = draft.sealed()
    registry = frameworks.registry()
    try:
        audit = codec.audit(structure, views, registry)
        parts = Opened(structure=structure, audit=audit, tensors=views, files={}, facts={})
        model = adapter.unpack(parts, registry, LoadOptions())
    except HoldfastError:
        return "refused"
    except Exception as error:  # noqa: BLE001 - that is the finding
        return f"crash: the load raised {type(error).__name__}: {error!s:.200}".replace("\n", " ")
    return use(model, inputs)


class Target(NamedTuple):
    """A case in its file form.

    Attributes:
        name: The case's.
        inputs: What its output methods are called with.
        honest: The form as it was packed.
        lies: The changes to be tried.
    """

    name: str
    inputs: Any
    honest: Draft
    lies: list[Lie]


def target_of(case: zoo.Case, chosen: Callable[[str, list[Lie]], list[Lie]]) -> Target:
    """Pack a case; raises ``Unsupported`` where that is not possible yet."""
    payload = adapter.pack(case.model, frameworks.registry())
    views = {
        name: TensorView(data.dtype, data.shape, memoryview(bytes(data.load())))
        for name, data in payload.tensors.items()
    }
    honest = Draft.of(payload.structure, views)
    return Target(case.name, some(case.inputs), honest, chosen(case.name, list(lies(honest))))


def child(target: Target, start: int, write: int) -> None:
    """Try the changes from ``start`` on, telling before and after each; never returns."""
    if GUARD in os.environ:
        sys.path.insert(0, os.environ[GUARD])
        importlib.import_module("guard")
    else:  # guarded arrays take many times the addresses
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not os.environ.get("FORGERY_TRACE"):
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    warnings.simplefilter("ignore")
    joblib.parallel_config("sequential").__enter__()  # n_jobs is as many workers as the user has
    for number in range(start, len(target.lies)):
        os.write(write, f"{number}\n".encode())
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process, even in C
        draft = target.honest.copy()
        target.lies[number].tell(draft)
        outcome = attempt(draft, target.inputs)
        os.write(write, f"{number} {outcome}\n".encode())
    os.write(write, b"end\n")
    os._exit(0)


def watched(target: Target, start: int) -> Iterator[tuple[int, str]]:
    """Run one child and yield what came of each change it got to."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(target, start, write)
        finally:
            os._exit(77)
    os.close(write)
    tried, ended, rest = start, False, b""
    while True:
        if not select.select([read], [], [], PATIENCE)[0]:
            os.kill(pid, signal.SIGKILL)
            yield tried, "slow: it waits"
            ended = True
            break
        data = os.read(read, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"end":
                ended = True
                continue
            number, _, outcome = line.decode().partition(" ")
            tried = int(number)
            if outcome:
                yield tried, outcome
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    if not ended:
        yield tried, death(status)


def death(status: int) -> str:
    """Say what ended a child."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        slow = number in (signal.SIGPROF, signal.SIGKILL)
        return f"{'slow' if slow else 'crash'}: {signal.Signals(number).name}"
    return f"crash: exit {os.WEXITSTATUS(status)}"


def outcomes(target: Target) -> Iterator[tuple[int, str]]:
    """Yield the outcome of every change, with a new child after each that ended one."""
    done = -1
    while done < len(target.lies) - 1:
        for number, outcome in watched(target, done + 1):
            yield number, outcome
            done = number


def kinds(names: list[str]) -> dict[str, type]:
    """Return classes by name: those named, or all of them, which takes long to import."""
    rooms = [importlib.import_module(f"sklearn.{room}") for room in ROOMS]
    named = {name: vars(room)[name] for name in names for room in rooms if name in vars(room)}
    return named if named.keys() == set(names) else zoo.kinds()


def cases(patterns: list[str], *, optional: bool) -> Iterator[zoo.Case]:
    """Fit the cases whose class or name matches."""

    def meant(*names: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    for name, kind in kinds(patterns).items():
        if meant(name):
            yield zoo.fitted(kind, {})
    for option in zoo.options() if optional else ():
        if meant(option.kind):
            yield zoo.case_of(option)


def chooser(options: argparse.Namespace) -> Callable[[str, list[Lie]], list[Lie]]:
    """Return what samples a case's changes; the honest form stays first."""

    def chosen(name: str, known: list[Lie]) -> list[Lie]:
        draw = random.Random(f"{options.seed} {name}")
        wanted = -(-(len(known) - 1) // options.every)
        wanted = min(wanted, options.limit or wanted)
        picked = sorted(draw.sample(range(1, len(known)), wanted))
        return [known[0], *(known[place] for place in picked)]

    return chosen


def compiled_guard(folder: str) -> str:
    """Compile ``guard.c`` into a folder and return that."""
    headers = [f"-I{sysconfig.get_paths()['include']}", f"-I{np.get_include()}"]
    words = ["cc", "-shared", "-fPIC", "-O1", *headers, str(Path(__file__).with_name("guard.c"))]
    subprocess.run([*words, "-o", f"{folder}/guard.so"], check=True)
    return folder


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_case(case: zoo.Case, options: argparse.Namespace, counts: Any) -> None:
    """Forge one case; print what went wrong, count the rest."""
    try:
        target = target_of(case, chooser(options))
    except Unsupported as error:
        counts["not encoded"] += 1
        say(f"NOT ENCODED {case.name}: {error.message:.150}")
        return
    begun, own = time.monotonic(), collections.Counter[str]()
    for number, outcome in outcomes(target):
        lie, kind = target.lies[number], outcome.partition(":")[0]
        if number == 0:  # the honest form is no mutation unless something is wrong with it
            kind = "" if kind == "harmless" else "crash"
        if kind:
            own[kind] += 1
        if kind in ("crash", "slow", "large"):
            say(f"{kind.upper()} {case.name} {lie.path} {lie.what}: {outcome}")
    counts.update(own)
    counts["cases"] += 1
    if options.verbose:
        say(f"{case.name} {dict(own)} {time.monotonic() - begun:.1f} s")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--options", action="store_true", help="the cases with options too")
    parser.add_argument("--every", type=int, default=1, help="one in so many changes")
    parser.add_argument("--limit", type=int, default=0, help="at most so many changes per case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--guard", action="store_true", help="end arrays at unreadable pages")
    parser.add_argument("--json", action="store_true", help="end with the counts as JSON")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        if options.guard:
            os.environ[GUARD] = compiled_guard(folder)
        for case in cases(options.patterns, optional=options.options):
            run_case(case, options, counts)
    total = sum(counts[kind] for kind in ("refused", "harmless", "crash", "slow", "large"))
    say(f"{counts['cases']} cases, {counts['not encoded']} not encoded")
    say(
        f"{total} mutations, {counts['refused']} refused, {counts['harmless']} harmless, "
        f"{counts['crash']} crashes, {counts['slow']} too slow, {counts['large']} too large"
    )
    if options.json:
        say(json.dumps({**counts, "mutations": total}))
    bad = [kind for kind in ("crash", "slow", "large", "not encoded") if counts[kind]]
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
