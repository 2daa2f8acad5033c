"""A saved version cut at every length and flipped at every byte: nothing damaged is handed out.

The store's random id alone may change: it names the caches, and is proven to mean nothing else.
"""

import json
import random
import shutil

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import holdfast
from holdfast.errors import HoldfastError
from holdfast.record import digest_hex

REF = "tiny@prod"
SMALL = 400
PLACES = (
    "header", "tensors", "content", "record", "manifest", "golden set", "extra file",
    "first log entry", "newest log entry", "store marker",
)  # fmt: skip


def save_tiny(path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 4))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] > 0)
    store = holdfast.Store.create(path)
    files = {"notes.txt": b"trained on thirty rows"}
    holdfast.save(model, "tiny", inputs=rows[:6], files=files, portable=None, store=store)
    holdfast.promote("tiny@v1", to="prod", reason="first", store=store)


@pytest.fixture(scope="module", name="original")
def saved_once(tmp_path_factory):
    """A store with one version and an alias; the test's own cache does not exist yet."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE", str(folder / "cache"))
        save_tiny(folder / "store")
    return folder / "store"


@pytest.fixture(name="store")
def own_copy(original, tmp_path):
    return holdfast.Store(shutil.copytree(original, tmp_path / "store"))


def file_at(store, place):
    """Return the path of what a place of the version is kept in."""
    logs = {"first log entry": 1, "newest log entry": 2}
    if place in logs:
        return store.path / "log" / "tiny" / f"{logs[place]:08d}.json"
    if place == "store marker":
        return store.path / "store.json"
    version = holdfast.get(REF, store=store)
    header, tensors = version.manifest.pieces
    digests = {
        "header": header.digest,
        "tensors": tensors.digest,
        "content": version.content_id,
        "record": version.record_id,
        "manifest": version.info.manifest,
        "golden set": version.record.golden["blob"],
        "extra file": version.content.files[0].digest,
    }
    return store.path / "blobs" / "sha256" / digest_hex(digests[place])


def test_the_places_are_all_files_of_the_store(store):
    paths = {file_at(store, place) for place in PLACES}
    assert len(paths) == len(PLACES)
    others = {path.name for path in store.path.rglob("*") if path.is_file()}
    assert others - {path.name for path in paths} == {"README.txt"}  # which nothing reads


def by_verify(store):
    return holdfast.verify(REF, replay=False, store=store)


def by_load(store):
    return holdfast.load(REF, verify="always", replay="never", store=store)


class Damaged:
    """A file under attack; each attack is undone."""

    def __init__(self, store, place):
        self.store = store
        self.place = place
        self.path = file_at(store, place)
        self.path.chmod(0o644)
        self.data = self.path.read_bytes()
        self.facts = facts(store)
        self.uncovered = member(self.data, "id") if place == "store marker" else frozenset()
        self.missed = []

    def attack(self, data, position, ways):
        self.write(data)
        try:
            for way in ways:
                self.judge(data, position, way)
        finally:
            self.write(self.data)

    def write(self, data):
        """Change the file in place: emptied first, it would be flushed to the disk each time."""
        with self.path.open("r+b") as file:
            file.write(data)
            file.truncate()

    def judge(self, data, position, way):
        """Note an attack that was neither refused nor without any effect on the version."""
        store = self.store
        try:
            if self.place == "store marker":
                store = holdfast.Store(store.path)
            way(store)
        except HoldfastError as error:
            if error.exit_code not in (4, 5) or "\nTry: " not in str(error):
                self.missed.append((position, way.__name__, error))
            return
        harmless = position in self.uncovered and len(data) == len(self.data)
        if not harmless or facts(store) != self.facts:
            self.missed.append((position, way.__name__, "not refused"))


def facts(store):
    """Return what the version is, and which aliases name it."""
    info = holdfast.get(REF, store=store).info
    return info.number, info.content, info.record, info.manifest, info.aliases


def member(data, key):
    """Return the positions of a member of a JSON document, its key among them."""
    value = json.loads(data)[key]
    text = f'"{key}":{json.dumps(value, separators=(",", ":"))}'.encode()
    start = data.index(text)
    assert data.count(text) == 1
    return frozenset(range(start, start + len(text)))


def cuts(size):
    if size <= SMALL:
        return range(size)
    return sorted({*range(100), *range(size - 100, size), *range(100, size, 17)})


def cut_everywhere(store, place, ways, lengths):
    damaged = Damaged(store, place)
    for length in lengths(len(damaged.data)):
        damaged.attack(damaged.data[:length], length, ways)
    assert damaged.missed == []


def flip_everywhere(store, place, ways, step):
    damaged = Damaged(store, place)
    rng = random.Random(f"{place} 20260301")
    start = rng.randrange(step) if len(damaged.data) > SMALL else 0
    for position in range(start, len(damaged.data), step if len(damaged.data) > SMALL else 1):
        data = bytearray(damaged.data)
        data[position] ^= 1 << rng.randrange(8)
        damaged.attack(bytes(data), position, ways)
    assert damaged.missed == []


def test_the_untouched_version_passes_both_ways(store):
    assert by_verify(store).blobs == 7
    assert by_load(store).predict(np.zeros((2, 4))).shape == (2,)


# The log's chain is followed by verify; a load asks only what the index has not seen.
CHAINED = {"first log entry": (by_verify,)}


@pytest.mark.parametrize("place", PLACES)
def test_a_cut_file_is_refused_at_every_length(store, place):
    cut_everywhere(store, place, CHAINED.get(place, (by_load,)), cuts)


@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_bit_is_refused_or_changes_nothing(store, place):
    flip_everywhere(store, place, CHAINED.get(place, (by_verify,)), step=13)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_length_and_every_byte_both_ways(store, place):
    ways = CHAINED.get(place, (by_verify, by_load))
    cut_everywhere(store, place, ways, range)
    flip_everywhere(store, place, ways, step=1)


@pytest.mark.parametrize("place", [p for p in PLACES if p != "store marker"])
def test_a_missing_file_is_refused(store, place):
    file_at(store, place).unlink()
    with pytest.raises(HoldfastError) as caught:
        by_verify(store)
    assert caught.value.exit_code in (4, 5)


@pytest.mark.parametrize("place", PLACES)
def test_a_file_with_something_appended_is_refused(store, place):
    path = file_at(store, place)
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b"\n")
    for way in (by_verify, by_load):
        with pytest.raises(HoldfastError) as caught:
            way(holdfast.Store(store.path))
        assert caught.value.exit_code == 4
