"""How a store ages: which versions need attention and what to do, and what was checked where."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from holdfast.api.store import Store
from holdfast.archive import checks
from holdfast.archive.checks import PROVEN, Check
from holdfast.catalogue.history import VersionInfo
from holdfast.environment import capture, preflight, recreate, releases
from holdfast.errors import EnvironmentMismatch, HoldfastError, NotFound
from holdfast.record import Digest, Record

__all__ = ["KINDS", "Ageing", "Concern", "Environment", "ageing"]

# What may be the matter with a version, worst first.
KINDS: Final = (
    "damaged", "refused here", "failed here", "cannot load here", "needs its worker",
    "loads portable", "unproved here", "end of life", "long unchecked",
)  # fmt: skip
_OFTEN: Final = dt.timedelta(days=90)
_OURS: Final = "holdfast-ml"

# Checks of a version by the key of their environment, the newest first.
_Found = dict[str, Check]


class Concern(NamedTuple):
    """One thing that is the matter with a version.

    Attributes:
        ref: The version; the name alone where its log is damaged.
        aliases: Its aliases.
        kind: One of ``KINDS``.
        what: In words.
        fix: One runnable next step.
    """

    ref: str
    aliases: tuple[str, ...]
    kind: str
    what: str
    fix: str


class Environment(NamedTuple):
    """A column of the matrix: environments that agree in all that their checks say.

    Attributes:
        label: What tells it from the others.
        facts: Python, system and packages; null for a package that was looked for in vain.
        here: Whether it is like this one.
    """

    label: str
    facts: dict[str, str | None]
    here: bool


class Ageing(NamedTuple):
    """What ``Store.ageing`` found.

    Attributes:
        versions: References that were looked at, in the order of the log.
        concerns: What is the matter, the worst first.
        environments: Where any of the versions was checked, the latest first.
        matrix: Reference to what its newest check found in each of the environments: ``outcome``,
            ``at``, ``hashed``, ``detail`` and, of a check that a registry has told of, ``heard``,
            which place it was; or None.
        ignored: Check documents that were passed over, for they are damaged or forged.
    """

    versions: tuple[str, ...]
    concerns: tuple[Concern, ...]
    environments: tuple[Environment, ...]
    matrix: dict[str, tuple[dict[str, str] | None, ...]]
    ignored: int

    def document(self) -> dict[str, Any]:
        """Return it as JSON-like values."""
        return {
            **self._asdict(),
            "concerns": [each._asdict() for each in self.concerns],
            "environments": [each._asdict() for each in self.environments],
        }


def ageing(store: Store, *, everything: bool = False) -> Ageing:
    """Look at a store's versions by the log, their records and their checks; runs nothing.

    Args:
        store: The store.
        everything: All versions; by default those that have an alias or are the newest of a name.
    """
    judge, ignored = _Judge(), 0
    concerns: list[Concern] = []
    rows: dict[str, _Found] = {}
    for model in store.catalogue.names():
        if model.damage is not None:
            fix = f"hold log {model.name}"
            concerns.append(Concern(model.name, (), "damaged", model.damage, fix))
            continue
        for info in _chosen(store, model.name, everything=everything):
            ref = f"{info.name}@v{info.number}"
            found = store.checks.of(info.record)
            ignored += found.ignored
            made, heard = (_of_manifest(part, info) for part in (found.checks, found.heard))
            rows[ref] = made | heard
            concerns.extend(judge.concerns(store, info, made))
    concerns.sort(key=lambda each: KINDS.index(each.kind))
    environments, matrix = _matrix(rows)
    return Ageing(tuple(rows), tuple(concerns), environments, matrix, ignored)


def _of_manifest(found: Mapping[str, Check], info: VersionInfo) -> _Found:
    return {key: check for key, check in found.items() if check.manifest == info.manifest}


def _chosen(store: Store, name: str, *, everything: bool) -> list[VersionInfo]:
    infos: list[VersionInfo] = []
    with suppress(NotFound):  # all its versions were forgotten
        infos = store.catalogue.versions(name)
    return [info for info in infos if everything or info.aliases or info is infos[-1]]


class _Compared(NamedTuple):
    """A recorded environment beside this one.

    Attributes:
        lacking: What is not installed here.
        key: Name of this environment for such a record.
        same: Whether the packages are the same ones.
        ended: What of the recorded one is past its support, in words.
        stale: A package that is past its support here too; empty for none.
    """

    lacking: tuple[preflight.Finding, ...]
    key: str
    same: bool
    ended: str
    stale: str


class _Judge:
    """Judges versions by the same moment and the same environment."""

    def __init__(self) -> None:
        now = dt.datetime.now(tz=dt.UTC)
        self._day = now.date().isoformat()
        self._recently = (now - _OFTEN).isoformat()
        self._builds = recreate.uv() is not None
        self._compared: dict[str, _Compared] = {}

    def concerns(self, store: Store, info: VersionInfo, found: _Found) -> Iterator[Concern]:
        """Yield what is the matter with a version.

        Args:
            store: Where it is.
            info: Which.
            found: Its checks, the newest first.
        """
        ref = f"{info.name}@v{info.number}"

        def concern(kind: str, what: str, fix: str) -> Concern:
            return Concern(ref, info.aliases, kind, what, fix)

        try:
            record = Record.decode(store.blobs.read(Digest(info.record)))
        except HoldfastError as error:
            yield concern("damaged", error.message, f"hold verify {ref}")
            return
        newest = next(iter(found.values()), None)
        if newest is not None and newest.kind == "damaged":
            yield concern("damaged", _said(newest), f"hold verify {ref}")
        yield from (concern(*each) for each in self._here(ref, record, found))
        yield from (concern(*each) for each in self._ended(ref, record, found))
        last = info.at if newest is None else newest.hashed
        if last < self._recently:
            words = f"last checked on {last[:10]}" if found else f"never, since {last[:10]}"
            yield concern("long unchecked", words, f"hold verify {ref}")

    def _here(self, ref: str, record: Record, found: _Found) -> Iterator[tuple[str, str, str]]:
        """Yield what keeps a version from answering in this environment."""
        worker = f"hold predict {ref} rows.csv --environment recorded"
        compared = self._compare(record.environment)
        if compared.lacking:
            what = "; ".join(each.what for each in compared.lacking)
            if preflight.runs_form(record.portable):
                yield "loads portable", what, f"hold predict {ref} rows.csv --environment portable"
            elif self._rebuilds(record):
                yield "needs its worker", what, worker
            else:
                yield "cannot load here", what, compared.lacking[0].fix
            return
        check = found.get(compared.key)
        if check is None or check.kind in (*PROVEN, "damaged"):
            return
        fix = f"hold preflight {ref}"
        if check.kind == "refused":
            helps = not compared.same and self._rebuilds(record)
            fix = worker if helps else f"hold show {ref}"
        yield f"{check.kind} here", _said(check), fix

    def _compare(self, environment: Mapping[str, Any]) -> _Compared:
        """Compare a recorded environment with this one; most versions of a store share theirs."""
        name = repr(environment)
        if name not in self._compared:
            here = checks.here(environment)
            stale = (each.name for each in releases.ended(here, self._day))
            found = preflight.libraries(environment)
            self._compared[name] = _Compared(
                lacking=tuple(each for each in found if each.kind == "blocks"),
                key=capture.environment_key(here),
                same=here["packages"] == environment.get("packages"),
                ended="; ".join(each.why for each in releases.ended(environment, self._day)),
                stale=next((each for each in stale if each != "Python"), ""),
            )
        return self._compared[name]

    def _rebuilds(self, record: Record) -> bool:
        """Say whether uv may build the recorded environment; the package index is not asked."""
        if not self._builds:
            return False
        try:
            recreate.plan(record.environment, record.created)
        except EnvironmentMismatch:
            return False
        return True

    def _ended(self, ref: str, record: Record, found: _Found) -> Iterator[tuple[str, str, str]]:
        """Yield that libraries are past their support, unless it is proven on some that are not."""
        compared = self._compare(record.environment)
        if not compared.ended or any(self._is_current(check, record) for check in found.values()):
            return
        fix = f"hold verify {ref}"
        if compared.stale:
            fix = f'python -m pip install --upgrade "{compared.stale}"  # elsewhere, then {fix}'
        yield "end of life", f"{compared.ended}; not proven on supported ones", fix

    def _is_current(self, check: Check, record: Record) -> bool:
        proven = PROVEN if record.golden is None else PROVEN[:2]
        return check.kind in proven and not [*releases.ended(check.environment, self._day)]


def _said(check: Check) -> str:
    return f"on {check.at[:10]}, {check.detail.removeprefix('REFUSED: ')}"


def _matrix(
    rows: Mapping[str, _Found],
) -> tuple[tuple[Environment, ...], dict[str, tuple[dict[str, str] | None, ...]]]:
    """Gather environments that agree in all that both speak of into columns."""
    newest: dict[str, Check] = {}
    for key, check in (item for found in rows.values() for item in found.items()):
        if key not in newest or newest[key].hashed < check.hashed:
            newest[key] = check
    columns: list[dict[str, str | None]] = []
    placed: dict[str, int] = {}
    for key, check in sorted(newest.items(), key=lambda item: item[1].hashed, reverse=True):
        facts = _facts(check.environment)
        fits = (number for number, column in enumerate(columns) if _agree(column, facts))
        placed[key] = number = next(fits, len(columns))
        if number == len(columns):
            columns.append({})
        columns[number].update(facts)
    cells = {ref: _cells(found, placed, len(columns)) for ref, found in rows.items()}
    return tuple(_labelled(columns)), cells


def _facts(environment: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what a column tells apart: a check with another Holdfast or processor is no other."""
    named = environment.get("packages", {})
    packages = {name: version for name, version in named.items() if name != _OURS}
    system = f"{environment.get('os')} {environment.get('machine')}"
    return {**packages, "Python": str(environment.get("python")), "on": system}


def _agree(one: Mapping[str, str | None], other: Mapping[str, str | None]) -> bool:
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def _cells(
    found: _Found, placed: Mapping[str, int], count: int
) -> tuple[dict[str, str] | None, ...]:
    cells: list[dict[str, str] | None] = [None] * count
    for key, check in found.items():  # what was made here before what was heard; the newest first
        number = placed[key]
        if cells[number] is None:
            cells[number] = {
                "outcome": check.outcome,
                "at": check.at,
                "hashed": check.hashed,
                "detail": check.detail,
                **({} if check.heard is None else {"heard": check.heard}),
            }
    return tuple(cells)


def _labelled(columns: list[dict[str, str | None]]) -> Iterator[Environment]:
    names = dict.fromkeys(name for column in columns for name in column)
    differing = [
        name for name in names if len({each[name] for each in columns if name in each}) > 1
    ]
    shown = [name for name in names if name not in ("Python", "on")]
    for column in columns:
        label = [_word(name, column[name]) for name in differing or shown if name in column]
        if "Python" not in differing:
            label.append(_word("Python", column["Python"]))
        yield Environment(", ".join(label), column, _is_here(column))


def _word(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name} {value}"


def _is_here(column: Mapping[str, str | None]) -> bool:
    packages = {name: value for name, value in column.items() if name not in ("Python", "on")}
    return _agree(_facts(checks.here({"packages": packages})), column)
