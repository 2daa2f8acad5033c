"""Coded blobs in a bucket: sent as they are, read as if they were plain, kept with their bases."""

import itertools
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import holdfast
from holdfast.api.compacting import compact
from holdfast.api.history import forget
from holdfast.api.housekeeping import prune, stats
from holdfast.errors import Corrupt, HoldfastError, NotFound, PartlyDone, RemoteError
from holdfast.record import digest_hex, digest_of
from holdfast.store.coded import Index, Part, ending
from holdfast.testing.coding import MadeCoded

GRACE = 3600.0


def weights(step):
    rng = np.random.default_rng(0)
    base = rng.standard_normal((2, 15_000)) * 0.02
    moved = np.random.default_rng(step + 1).standard_normal(base.shape) * 2e-7 * step
    return {f"layer.{n}": row.astype("f4") for n, row in enumerate(base + moved)}


def key(digest, folder="blobs"):
    return f"{folder}/sha256/{digest_hex(digest)}"


@pytest.fixture(scope="module", name="series")
def store_with_a_base_and_two_fine_tunes(tmp_path_factory):
    """Return a store in which v1 is coded alone, and v2 and v3 as differences to it."""
    store = holdfast.Store.create(tmp_path_factory.mktemp("series") / "store")
    for step in range(3):
        holdfast.save(weights(step), "net", store=store)
    compact(keep=0, store=store)
    assert len(store.blobs.bases()) == 1
    return store.path


@pytest.fixture(name="near")
def own_copy(series, tmp_path):
    return holdfast.Store(shutil.copytree(series, tmp_path / "near"))


def check(store, *numbers, name="net"):
    for there, step in enumerate(numbers, 1):
        ref = f"{name}@v{there}"
        found = holdfast.load(ref, store=store, verify="always")
        assert all(np.array_equal(found[k], v) for k, v in weights(step).items())
        holdfast.verify(ref, store=store)


def coded(server):
    return [k for k in server.objects if k.startswith("coded/sha256/")]


def pieces(store, ref):
    return [p.digest for p in holdfast.get(ref, store=store).manifest.pieces if p.size > 4096]


def test_a_series_goes_over_coded_and_comes_back(near, server, store_at, tmp_path):
    far = store_at(server)
    refs = [f"net@v{n}" for n in (1, 2, 3)]
    dry = near.push(refs, far, dry_run=True)
    done = near.push(refs, far)
    assert (done.size, done.blobs) == (dry.size, dry.blobs)
    there = {k: len(data) for k, (data, _) in server.objects.items() if "sha256/" in k}
    assert sum(there.values()) == done.size
    assert len(coded(server)) == 3
    assert near.push(refs, far).size == 0
    check(store_at(server, "reader"), 0, 1, 2)
    told, here = stats(store=far), stats(store=near)
    assert (told.coded, told.saved, told.stored) == (here.coded, here.saved, done.size)
    back = holdfast.Store.create(tmp_path / "back")
    again = back.pull(refs, store_at(server, "puller"))
    assert again.size == done.size
    check(back, 0, 1, 2)
    assert back.blobs.bases() == near.blobs.bases()


def test_a_list_asks_for_no_blob(near, server, store_at):
    far = store_at(server)
    near.push("net", far, history=True)
    server.counts()
    listed = {info.digest: info for info in far.blobs.list()}
    assert server.counts() == {"list": 2}
    for info in near.blobs.list():
        found = listed[info.digest]
        assert (found.size, found.stored, found.base) == (info.size, info.stored, info.base)


def test_a_copy_of_a_folder_is_a_store_in_a_bucket(near, server, store_at, tmp_path):
    """Nothing tells of its coded blobs, so their ends are read."""
    store_at(server)
    for file in near.path.rglob("*"):
        name = str(file.relative_to(near.path))
        if file.is_file() and not name.startswith("tmp/"):
            server.put(name, file.read_bytes())
    far = store_at(server, "another")
    infos = [{(i.digest, i.size, i.stored, i.base) for i in s.blobs.list()} for s in (near, far)]
    assert infos[0] == infos[1]
    check(far, 0, 1, 2)
    forget(["net@v1"], store=far)
    server.clock += 2 * GRACE
    prune(store=far)
    server.clock += 2 * GRACE
    prune(store=far)
    holdfast.verify("net@v3", store=store_at(server, "reader"))


def test_one_fine_tune_without_its_base_goes_plain(near, server, store_at):
    """Its base would cost more than the differences save."""
    far = store_at(server)
    done = near.push("net@v2", far)
    assert coded(server) == []
    assert done.size > 120_000
    near.push("net@v3", far)
    check(far, 1, 2)


def test_a_base_that_pays_goes_along_and_stays(near, server, store_at):
    for step in (3, 4, 5, 6, 7):
        holdfast.save(weights(step), "net", store=near)
    compact(keep=0, store=near)
    forget(["net@v1"], store=near)
    far = store_at(server)
    done = near.push("net", far, history=True)
    plain = 7 * sum(v.nbytes for v in weights(0).values())
    assert done.size < 0.6 * plain
    for _ in range(3):
        server.clock += 2 * GRACE
        assert prune(store=far).blobs == 0
    reader = store_at(server, "reader")
    assert (holdfast.load("net@v8", store=reader)["layer.1"] == weights(7)["layer.1"]).all()


def test_bases_that_are_there_already_serve(near, server, store_at, tmp_path):
    """Plain, from a store that has not compacted them."""
    other = holdfast.Store.create(tmp_path / "other")
    holdfast.save(weights(0), "net", store=other)
    far = store_at(server)
    other.push("net", far)
    done = near.push("net@v2", far)
    assert done.size < 70_000
    assert len(coded(server)) == 1
    reader = store_at(server, "reader")
    check(reader, 0, 1)
    bundled = reader.bundle("net@v2", tmp_path / "net.hold")
    found = holdfast.load(f"{bundled.path}:net")
    assert np.array_equal(found["layer.0"], weights(1)["layer.0"])


def test_damage_of_a_coded_source_is_told_and_does_not_spread(near, server, store_at):
    (digest,) = pieces(near, "net@v2")
    file = near.blobs.coded.place(digest)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)
    far = store_at(server)
    near.push("net@v1", far)
    with pytest.raises(Corrupt):
        near.push("net@v2", far)
    assert [v.number for v in holdfast.versions("net", store=far)] == [1]
    assert not far.blobs.has(digest)


def test_a_base_that_is_cut_short_there_serves_nobody(near, server, store_at):
    far = store_at(server)
    (base,) = pieces(near, "net@v1")
    server.put(key(base), b"half")
    near.push("net@v2", far)
    assert coded(server) == []
    check(store_at(server, "reader"), 1)


def test_a_save_knows_what_is_there_coded(near, server, store_at):
    far = store_at(server)
    near.push(["net@v1", "net@v2"], far)
    before = len(server.objects)
    holdfast.save(weights(1), "other", store=far)
    assert not {key(p) for p in pieces(near, "net@v2")} & {*server.objects}
    assert len(server.objects) > before
    found = holdfast.load("other", store=store_at(server, "reader"))
    assert (found["layer.0"] == weights(1)["layer.0"]).all()


def test_lazy_tensors_fetch_a_coded_blob_once(near, server, store_at):
    far = store_at(server)
    small = {f"s{n}": np.full(900, n / 7) for n in range(9)}
    holdfast.save(small, "net", store=near)
    compact(keep=0, store=near)
    near.push("net@v4", far)
    tensors = holdfast.get("net", store=store_at(server, "reader")).tensors()
    server.counts()
    assert all((tensors[name] == small[name]).all() for name in small)
    gets = [k for verb, k in server.asked if verb == "get" and k.startswith("coded/")]
    assert sorted(gets) == sorted(set(coded(server)) & set(gets))


def test_a_prune_takes_both_forms_and_leaves_bases(near, server, store_at):
    far = store_at(server)
    near.push("net", far, history=True)
    base, first = pieces(near, "net@v1"), pieces(near, "net@v2")
    far.blobs.send(first[0], near.blobs.open_blob(first[0]).view())
    forget(["net@v1", "net@v2"], store=far)
    server.clock += 2 * GRACE
    found = prune(store=far)
    assert found.blobs == 0
    server.clock += 2 * GRACE
    done = prune(store=far)
    assert done.blobs == found.waiting
    left = {*server.objects}
    assert not {key(p, folder) for p in first for folder in ("blobs", "coded")} & left
    assert {key(p, "coded") for p in base} <= left
    assert not any(digest_hex(p) in k for p in first for k in left)
    holdfast.verify("net@v3", store=store_at(server, "reader"))
    forget(["net@v3"], store=far)
    for _ in range(2):
        server.clock += 2 * GRACE
        prune(store=far)
    assert not [k for k in server.objects if k.startswith(("blobs/", "coded/"))]


def test_a_base_that_was_announced_is_kept_for_what_came_meanwhile(near, server, store_at):
    """Its version was forgotten and a prune announced it; then a fine-tune of it was pushed."""
    far = store_at(server)
    near.push("net@v1", far)
    forget(["net@v1"], store=far)
    server.clock += 2 * GRACE
    assert prune(store=far).waiting > 0
    near.push("net@v2", store_at(server, "pusher"))
    assert len(coded(server)) == 2
    for _ in range(3):
        server.clock += 2 * GRACE
        prune(store=store_at(server, "pruner"))
    reader = store_at(server, "reader")
    assert (holdfast.load("net", store=reader)["layer.0"] == weights(1)["layer.0"]).all()


@pytest.mark.parametrize(
    "verb",
    ["create", *(pytest.param(v, marks=pytest.mark.slow) for v in ("put", "head", "list", "get"))],
)
def test_a_push_beside_a_prune_at_every_request(near, server, store_at, verb):
    """A prune that wants the base runs whole between any two requests of a push against it."""
    first = store_at(server, "first")
    near.push("net@v1", first)
    forget(["net@v1"], store=first)
    server.clock += 2 * GRACE
    prune(store=first)
    snapshot, clock = dict(server.objects), server.clock
    at = 0
    while True:
        server.objects, server.clock = dict(snapshot), clock
        pruner, pusher = store_at(server, f"pruner{at}"), store_at(server, f"pusher{at}")
        for one in (pruner, pusher):
            one.blobs._bucket.require_create_only()
        seen = [0]

        def prunes(asked, _, seen=seen, at=at, pruner=pruner):
            seen[0] += asked == verb
            if asked == verb and seen[0] == at + 1:
                server.before = lambda *_: None
                server.clock += GRACE + 1
                prune(store=pruner)

        server.before = prunes
        try:
            near.push("net@v2", pusher)
        finally:
            server.before = lambda *_: None
        for _ in range(2):
            server.clock += 2 * GRACE
            prune(store=store_at(server, f"later{at}"))
        holdfast.verify("net@v2", store=store_at(server, f"reader{at}"), replay=False)
        if seen[0] <= at:
            break
        at += 1
    assert at > 0


def test_two_that_code_one_blob_otherwise_keep_both_bases(server, blobs_at):
    """Whoever puts last wins, and either base may be the one that is needed."""
    plain = [np.float32(n + np.arange(9000)).tobytes() for n in range(3)]
    first, second, blob = (digest_of(data) for data in plain)
    one, two = blobs_at(server, "one"), blobs_at(server, "two")
    for data in plain[:2]:
        one.put(lambda data=data: [data])

    def between(verb, name):
        if verb == "put" and name == key(blob, "coded"):
            server.before = lambda *_: None
            assert two.put_coded(blob, MadeCoded(plain[2], plain[1]))

    server.before = between
    assert one.put_coded(blob, MadeCoded(plain[2], plain[0]))
    assert one.bases() == {first, second}
    server.clock += 2 * GRACE
    pruner = blobs_at(server, "pruner")
    for _ in range(3):
        unneeded = lambda some: [digest for digest in some if digest != blob]  # noqa: E731
        assert pruner.dispose([first, second], unneeded=unneeded, grace=GRACE).deleted == 0
        server.clock += 2 * GRACE
    assert blobs_at(server, "reader").read(blob) == plain[2]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["put", "create", "get", "head", "list"])
def test_a_server_that_dies_at_any_request_of_a_push(near, server, store_at, verb):
    """Nothing half is visible, and the next push goes on and ends as if nothing had been."""
    refs = ["net@v1", "net@v2", "net@v3"]
    for at in itertools.count(step=1 if verb in ("put", "create") else 5):
        seen = [0]

        def dies(asked, _, seen=seen, at=at):
            seen[0] += asked == verb
            if asked == verb and seen[0] > at:
                raise RemoteError("the server is gone")

        far = store_at(server, f"machine{at}")
        far.blobs._bucket.require_create_only()
        server.before = dies
        try:
            near.push(refs, far)
        except (RemoteError, PartlyDone):
            server.before = lambda *_: None
            reader = store_at(server, f"reader{at}")
            for version in (
                v for m in reader.catalogue.names() for v in holdfast.versions(m.name, store=reader)
            ):
                holdfast.verify(version.ref, store=reader, replay=False)
        else:
            break
    server.before = lambda *_: None
    check(store_at(server, "reader"), 0, 1, 2)
    assert len(coded(server)) == 3


def test_a_base_that_is_gone_is_told_and_a_save_repairs(near, server, store_at, tmp_path):
    far = store_at(server)
    near.push(["net@v1", "net@v2"], far)
    for digest in pieces(near, "net@v1"):
        del server.objects[key(digest, "coded")]
    lost = pieces(near, "net@v2")
    reader = store_at(server, "reader")
    assert not reader.blobs.has(lost[0])
    with pytest.raises(Corrupt, match="cannot be decoded") as caught:
        reader.blobs.read(lost[0])
    assert caught.value.ref == lost[0]
    fresh = holdfast.Store.create(tmp_path / "fresh")
    with pytest.raises(HoldfastError):
        fresh.pull("net@v2", reader)
    assert fresh.catalogue.names() == []
    holdfast.save(weights(1), "again", store=store_at(server, "mender"))
    assert key(lost[0]) in server.objects
    holdfast.verify("net@v2", store=store_at(server, "another"))
    holdfast.save(weights(0), "base", store=store_at(server, "mender"))
    check(store_at(server, "a third"), 0, 1)


def test_a_coded_blob_that_went_bad_is_found_set_aside_and_sent_again(near, server, store_at):
    far = store_at(server)
    near.push(["net@v1", "net@v2"], far)
    digest = pieces(near, "net@v2")[0]
    server.flip(key(digest, "coded"))
    reader = store_at(server, "reader")
    with pytest.raises(Corrupt, match="coded/sha256"):
        holdfast.verify("net@v2", store=reader)
    assert reader.blobs.drop_damaged(digest)
    assert not [k for k in server.objects if digest_hex(digest) in k and k.startswith("coded/")]
    holdfast.save(weights(1), "again", store=reader)
    holdfast.verify("net@v2", store=store_at(server, "another"))


def test_a_copy_of_a_base_that_went_bad_here_is_fetched_again(near, server, store_at):
    far = store_at(server)
    near.push(["net@v1", "net@v2"], far)
    reader = store_at(server, "reader")
    holdfast.load("net@v1", store=reader)
    base = pieces(near, "net@v1")[0]
    file = reader.blobs._cache.folder / "blobs" / digest_hex(base)
    file.chmod(0o600)
    file.write_bytes(bytes(file.stat().st_size))
    fresh = store_at(server, "reader")
    assert (holdfast.load("net@v2", store=fresh)["layer.0"] == weights(1)["layer.0"]).all()


def test_a_damaged_base_in_the_bucket_is_found_whatever_lies_here(near, server, store_at):
    far = store_at(server)
    near.push(["net@v1", "net@v2"], far)
    holdfast.load("net@v1", store=store_at(server, "reader"))
    server.flip(key(pieces(near, "net@v1")[0], "coded"))
    with pytest.raises(Corrupt):
        holdfast.verify("net@v2", store=store_at(server, "reader"))


def _index(size, parts=(), base=None):
    return ending(Index(size=size, parts=tuple(parts), base=base))


def _constant(size, planes=(-8,), chunk=1 << 24):
    return Part(size=size, width=1, kind="bytes", chunk=chunk, planes=tuple(planes))


NAME = digest_of(b"what it should be")
HOSTILE = {
    "empty": b"",
    "short": b"1234567",
    "no index": bytes(100),
    "longer index than file": b"{}" + (1 << 40).to_bytes(8, "little"),
    "another blob": _index(9, [_constant(9)]),
    "more than any machine has": _index(
        1 << 40,
        [Part(size=1 << 40, width=8, kind="bytes", chunk=1 << 24, planes=(-2,) * (1 << 16))],
    ),
    "more bytes than parts": _index(1 << 20, [_constant(9)]),
    "frames that are not there": _index(9, [_constant(9, planes=(5,))]),
    "frame that lies": b"12345" + _index(9, [_constant(9, planes=(5,))]),
    "itself as base": _index(
        4, [Part(size=4, width=4, kind="sorted", chunk=1, planes=(-1,) * 4)], NAME
    ),
    "a base that is not there": _index(
        4, [Part(size=4, width=4, kind="sorted", chunk=1, planes=(-1,) * 4)], digest_of(b"gone")
    ),
    "no digest as base": _index(4, [_constant(4)], "../../etc/passwd"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_object_is_refused(server, blobs_at, what):
    store = blobs_at(server)
    server.put(key(NAME, "coded"), HOSTILE[what])
    with pytest.raises(HoldfastError):
        store.read(NAME)
    with pytest.raises(HoldfastError):
        store.read_range(NAME, 0, 1)
    assert list(store.list())
    assert not store._cache.has(NAME)
    assert not list(store._cache.folder.glob("new-*"))


def test_a_coded_blob_that_is_too_long_is_not_decoded(near, server, store_at):
    """Some bytes that stand for a gigabyte: the content says how long the piece is."""
    far = store_at(server)
    near.push("net@v1", far)
    (digest,) = pieces(near, "net@v1")
    server.put(key(digest, "coded"), _index(1 << 30, [_constant(1 << 30, planes=(-8,) * 64)]))
    reader = store_at(server, "reader")
    with pytest.raises(Corrupt, match="it says that it has 1073741824 bytes"):
        holdfast.load("net", store=reader)
    tensors = holdfast.get("net", store=store_at(server, "another")).tensors()
    with pytest.raises(Corrupt, match="it says that it has 1073741824 bytes"):
        tensors["layer.0"]


def test_a_chain_of_bases_is_refused(server, blobs_at):
    plain = [np.float32(n + np.arange(9000)).tobytes() for n in range(3)]
    digests = [digest_of(data) for data in plain]
    server.put(key(digests[0]), plain[0])
    for n in (1, 2):
        server.put(key(digests[n], "coded"), bytes(MadeCoded(plain[n], plain[n - 1]).file))
    store = blobs_at(server)
    assert store.read(digests[1]) == plain[1]
    store = blobs_at(server, "another")
    with pytest.raises(Corrupt, match="itself coded as differences"):
        store.read(digests[2])
    assert store.find(digests[2]) is None


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 10**9), byte=st.integers(1, 255), cut=st.booleans())
def test_whatever_is_changed_in_an_object_it_is_refused_or_right(server, blobs_at, at, byte, cut):
    plain = [np.float32(n + np.arange(3000)).tobytes() for n in range(2)]
    base, digest = (digest_of(data) for data in plain)
    server.put(key(base), plain[0])
    made = bytearray(MadeCoded(plain[1], plain[0]).file)
    place = at % len(made)
    made[place] ^= byte
    server.put(key(digest, "coded"), bytes(made[:place] if cut else made))
    try:
        assert blobs_at(server).read(digest) == plain[1]
    except HoldfastError:
        assert not blobs_at(server)._cache.has(digest)
    else:
        blobs_at(server).renew(digest)


def test_a_blob_that_is_nowhere_is_not_found(server, blobs_at):
    server.put(key(digest_of(b"x"), "coded"), b"something")
    with pytest.raises(NotFound):
        blobs_at(server).read(NAME)


def test_lists_that_lag_behind_cost_nobody_a_base(near, server, store_at):
    """What a push has just put is not in the lists of a prune that runs beside it."""
    first = store_at(server, "first")
    near.push("net@v1", first)
    forget(["net@v1"], store=first)
    server.clock += 2 * GRACE
    assert prune(store=first).waiting > 0
    real, hidden = server.list, set()
    server.list = lambda folder, after="": (
        found for found in real(folder, after) if found.key not in hidden
    )
    before = {*server.objects}
    near.push("net@v2", store_at(server, "pusher"))
    hidden |= {k for k in server.objects if k not in before and k.startswith("coded/")}
    server.clock += GRACE + 1
    prune(store=store_at(server, "pruner"))
    hidden.clear()
    for _ in range(2):
        server.clock += 2 * GRACE
        prune(store=store_at(server, "later"))
    holdfast.verify("net@v2", store=store_at(server, "reader"), replay=False)
