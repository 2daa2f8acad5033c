"""Looking without running anything: ``ls``, ``show``, ``preflight``, ``log``, ``diff``."""

from __future__ import annotations

from typing import Any, Final

import click

from holdfast.cli.given import complete
from holdfast.cli.output import Out, clean, day, human_bytes, out_options, table
from holdfast.errors import Corrupt, EnvironmentMismatch, UsageError

__all__ = ["diff", "log", "ls", "preflight", "show"]

_SHOWN: Final = 30


@click.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help=f"More than the newest {_SHOWN} versions.")
@out_options
def ls(name: str | None, out: Out, *, everything: bool) -> None:
    """List models, or the versions of NAME, newest first; NAME may be a bundle, FILE.hold."""
    from holdfast.api.refs import in_bundle
    from holdfast.api.store import bundle_at, the_store

    bundle = in_bundle(name)
    inside = bundle[1] if bundle else name
    store = bundle_at(bundle[0]) if bundle else the_store(out.store)
    if inside:
        _require_name(inside)
        _ls_versions(store, inside, out, everything=everything)
        return
    models = store.catalogue.names()
    rows = [
        (m.name, f"v{m.newest}" if m.newest else "-", m.count, ", ".join(m.aliases), day(m.changed))
        for m in models
        if m.damage is None
    ]
    document = {"store": store.url, "models": [m._asdict() for m in models]}
    lines = table(("NAME", "NEWEST", "VERSIONS", "ALIASES", "CHANGED"), rows) if rows else []
    out.data(document, lines, [m.name for m in models])
    damaged = [m.damage for m in models if m.damage is not None]
    if damaged:
        raise Corrupt(f"{len(damaged)} of {len(models)} logs are damaged: {damaged[0]}")
    if not rows:
        out.talk(f"The store {store.url} is empty.\nTry: hold save model.safetensors --name NAME")


def _require_name(text: str) -> None:
    name, at, _ = text.partition("@")
    if at:
        raise UsageError(
            f"{text} is one version; this is about all versions of {name}.",
            hint=f"hold show {text}",
        )


def _ls_versions(store: Any, name: str, out: Out, *, everything: bool) -> None:
    from holdfast.api.version import Version

    infos = list(reversed(store.catalogue.versions(name)))
    shown = infos if everything else infos[:_SHOWN]
    store.fetch_documents(shown)
    versions = [Version(store, info) for info in shown]
    metrics = list(dict.fromkeys(key for v in versions for key in v.metrics))[:3]
    rows, seen = [], _bytes_seen(versions)
    for version in versions:
        values = [f"{version.metrics[m]:g}" if m in version.metrics else "" for m in metrics]
        aliases = ", ".join(version.aliases)
        size, new = human_bytes(version.size), human_bytes(seen[version.number])
        rows.append(
            (version.ref, aliases, day(version.info.at), version.info.by, *values, size, new)
        )
    header = ("VERSION", "ALIAS", "SAVED", "BY", *(m.upper() for m in metrics), "SIZE", "NEW")
    document = {
        "name": name,
        "versions": [
            {
                "ref": v.ref, "content_id": v.content_id, "record_id": v.record_id,
                "aliases": list(v.aliases), "saved": v.info.at, "by": v.info.by,
                "metrics": v.metrics, "tags": dict(v.info.tags), "size": v.size,
            }
            for v in versions
        ],
    }  # fmt: skip
    out.data(document, table(header, rows), [v.ref for v in versions])
    if len(shown) < len(infos):
        out.talk(f"{len(infos) - len(shown)} older versions.\nTry: hold ls {name} --all")


def _bytes_seen(versions: list[Any]) -> dict[int, int]:
    """Return per version the bytes that no older shown version has."""
    seen: set[str] = set()
    new: dict[int, int] = {}
    for version in reversed(versions):
        pieces = {p.digest: p.size for p in version.manifest.pieces}
        pieces.update({f.digest: f.size for f in version.content.files})
        new[version.number] = sum(size for digest, size in pieces.items() if digest not in seen)
        seen.update(pieces)
    return new


@click.command()
@click.argument("ref")
@click.option("--tensors", is_flag=True, help="List every tensor.")
@out_options
def show(ref: str, out: Out, *, tensors: bool) -> None:
    """Show one version, or a model FILE; never runs anything of it."""
    from pathlib import Path

    from holdfast.api.history import get
    from holdfast.api.inspecting import inspect
    from holdfast.api.refs import in_bundle

    bundle = in_bundle(ref)
    if bundle is None and ("/" in ref or ("." in ref and Path(ref).is_file())):
        document = inspect(Path(ref))
        rows = [(key, value) for key, value in document.items() if key != "tensors"]
        lines = table(("FACT", "VALUE"), rows) + _tensor_lines(document.get("tensors", {}))
        out.data(document, lines, [str(document["kind"])])
        return
    version = get(ref, store=out.store)
    document = inspect(version.ref, store=version.store)
    lines = [clean(line) for line in str(version).splitlines()]
    size = human_bytes(version.size)
    lines.append(f"  {'size':<11} {size} in {len(document['tensors'])} tensors")
    for title in ("params", "source"):
        if document[title]:
            lines.append(f"  {title:<11} {clean(str(document[title]))}")
    lines += _signature_lines(document["signature"])
    if tensors:
        lines += _tensor_lines(document["tensors"])
    out.data(document, lines, [version.record_id])
    place = f"{bundle[0]}:" if bundle else ""
    store = f", store={out.store!r}" if out.store and not bundle else ""
    out.talk(f'Load it: holdfast.load("{place}{version.ref}"{store})')


def _signature_lines(signature: dict[str, Any]) -> list[str]:
    inputs = signature.get("inputs", {})
    if inputs.get("kind") == "frame":
        columns = [clean(column["name"]) for column in inputs["columns"]]
        more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
        return [f"  {'inputs':<11} {len(columns)} columns: {', '.join(columns[:8])}{more}"]
    if inputs.get("kind") == "array":
        shape = ", ".join("rows" if n is None else str(n) for n in inputs["shape"])
        return [f"  {'inputs':<11} {inputs.get('dtype', 'array')} ({shape})"]
    return [f"  {'inputs':<11} {inputs['kind']}"] if inputs else []


def _tensor_lines(tensors: dict[str, Any]) -> list[str]:
    rows = [(name, t["dtype"], " x ".join(map(str, t["shape"]))) for name, t in tensors.items()]
    return table(("TENSOR", "DTYPE", "SHAPE"), rows) if rows else []


@click.command()
@click.argument("name")
@click.option("--at", metavar="WHEN", help="As it stood then: 2026-03-03 or 2026-03-03T12:00:00Z.")
@out_options
def log(name: str, at: str | None, out: Out) -> None:
    """Show what happened to NAME: saves, aliases, tags, pins; and what each alias is now."""
    from holdfast.api.store import placed

    store, name = placed(name, out.store)
    _require_name(name)
    history = store.catalogue.history(name, at=at)
    entries = [
        {"seq": e.seq, "at": e.at, "by": e.by, "kind": e.kind, **e.body} for e in history.entries
    ]
    aliases = {
        alias: {"version": state.version, "since": state.since, "by": state.by,
                "reason": state.reason}
        for alias, state in history.aliases.items()
    }  # fmt: skip
    lines = [
        f"{alias} = {name}@v{state.version} since {day(state.since)}, by {clean(state.by)}"
        + (f", because {clean(state.reason)}" if state.reason else "")
        for alias, state in history.aliases.items()
    ]
    rows = [(day(e.at), e.by, _act(name, e.kind, e.body)) for e in history.entries]
    lines += table(("WHEN", "BY", "WHAT"), rows) if rows else []
    if not rows:
        out.talk(f"Nothing had happened to {name} by {at}.\nTry: hold log {name}")
    document = {"name": name, "at": at, "aliases": aliases, "entries": entries}
    out.data(document, lines, [str(e.seq) for e in history.entries])


def _act(name: str, kind: str, body: dict[str, Any]) -> str:
    why = f"  ({body['reason']})" if body.get("reason") else ""
    if kind == "save":
        return f"saved {name}@v{body['version']}"
    if kind == "alias":
        was = f" (was v{body['from']})" if body.get("from") else ""
        now = f"= {name}@v{body['to']}" if body.get("to") else "removed"
        return f"{body['alias']} {now}{was}{why}"
    if kind == "tag":
        changes = [f"{k}={v}" for k, v in (body.get("set") or {}).items()]
        changes += [f"-{k}" for k in body.get("unset") or ()]
        return f"tagged v{body['version']} {' '.join(changes)}"
    if kind == "pin":
        until = f" until {body['until']}" if body.get("until") else ""
        return f"{'pinned' if body['pinned'] else 'released'} v{body['version']}{until}{why}"
    if kind == "attach":
        return f"attached {body['role']} to v{body['version']}"
    return f"forgot {', '.join(f'v{n}' for n in body['versions'])}{why}"


@click.command()
@click.argument("before")
@click.argument("after")
@out_options
def diff(before: str, after: str, out: Out) -> None:
    """Compare two versions: tensors, parameters, metrics, signature, environment, outputs."""
    from holdfast.api.diff import diff as compare

    found = compare(before, after, store=out.store)
    lines = [clean(line) for line in repr(found).splitlines()]
    out.data({"diff": found.document()}, lines, list(found.tensors))


@click.command()
@click.argument("ref")
@out_options
def preflight(ref: str, out: Out) -> None:
    """Say whether REF loads here, and what it would meet; exit status 7 when it does not.

    Nothing of the model or its framework is imported or run.
    """
    from holdfast.api.preflighting import preflight as look

    found = look(ref, store=out.store)
    lines = [f"{found.verdict.upper()}  {found.ref}: {complete(found.tested)}"]
    for finding in found.findings:
        fix = f"  # {finding.fix}" if finding.fix else ""
        lines += [f"  {finding.kind:<8} {clean(finding.what + complete(fix))}"]
    out.data(found.document(), lines, [found.verdict])
    if found.verdict == "loads portable":
        out.talk(f"Try: hold predict {found.ref} rows.csv --environment portable")
    if found.verdict == "needs its worker":
        out.talk(f"Try: hold predict {found.ref} rows.csv --environment recorded")
    if found.verdict == "cannot":
        first = next(f for f in found.findings if f.kind == "blocks")
        raise EnvironmentMismatch(
            f"{found.ref} does not load here: {first.what}.", hint=first.fix, ref=found.ref
        )
