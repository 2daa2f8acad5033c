"""The local store against a dictionary: whatever is put and still needed can be read, always."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from holdfast.errors import Corrupt, NotFound
from holdfast.record import digest_hex, digest_of
from holdfast.store import coder
from holdfast.store.coder import Coder
from holdfast.store.coding import Kind
from holdfast.store.local import LocalStore

OLD = 10_000.0


@pytest.fixture(autouse=True, scope="module")
def code_what_does_not_pay():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coder, "_WORTH", 1000.0)
        yield


class StoreMachine(RuleBasedStateMachine):
    """Puts, refused deletions, coding, decoding, damage and healing, in any order."""

    blobs = Bundle("blobs")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = LocalStore.create(self.folder / "store")
        self.model: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.aged: set[str] = set()
        self.based: dict[str, str] = {}

    def teardown(self):
        shutil.rmtree(self.folder)

    def place(self, digest):
        name = digest_hex(digest)
        plain, coded = (self.store.path / part / "sha256" / name for part in ("blobs", "coded"))
        return coded if coded.exists() and not plain.exists() else plain

    def age(self, digest):
        then = time.time() - OLD
        os.utime(self.place(digest), (then, then))

    @rule(target=blobs, data=st.binary(max_size=300), known=st.booleans())
    def put(self, data, known):
        digest = digest_of(data)
        was_damaged = digest in self.damaged
        assert (
            self.store.put(lambda: [data[:7], data[7:]], expect=digest if known else None) == digest
        )
        self.model[digest] = data
        self.aged.discard(digest)
        if was_damaged and self.place(digest).read_bytes() == data:  # beside a damaged coded one
            self.damaged.discard(digest)
            self.based.pop(digest, None)
        return digest

    @rule(digest=blobs, needed=st.booleans(), old=st.booleans())
    def delete(self, digest, needed, old):
        if digest not in self.model:
            return
        if old:
            self.age(digest)
            self.aged.add(digest)
        freed = self.store.delete([digest], still_needed=lambda _: needed, grace=60.0)
        gone = digest in self.aged and not needed and digest not in self.based.values()
        assert (freed > 0) == (gone and len(self.model[digest]) > 0)
        if gone:
            del self.model[digest]
            self.based.pop(digest, None)
            self.damaged.discard(digest)
            self.aged.discard(digest)

    @rule(digest=blobs)
    def damage(self, digest):
        # A damaged base would damage what is coded against it: tests/store has that case.
        if not self.model.get(digest) or digest in self.damaged or digest in self.based.values():
            return
        place = self.place(digest)
        place.chmod(0o644)
        self.aged.discard(digest)
        data = place.read_bytes()
        place.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        self.damaged.add(digest)

    @rule(digest=blobs)
    def heal(self, digest):
        if digest not in self.model:
            return
        assert self.store.drop_damaged(digest) == (digest in self.damaged)
        if digest in self.damaged:
            data = self.model[digest]
            self.store.put(lambda: [data], expect=digest)
            self.damaged.discard(digest)
            self.based.pop(digest, None)
            self.aged.discard(digest)

    @rule(digest=blobs, base=blobs, width=st.sampled_from([1, 2, 4, 8]))
    def code(self, digest, base, width):
        if digest not in self.model or base == digest:
            return
        size = len(self.model[digest])
        whole = size // width * width
        kinds = [Kind(whole, width, width > 1), Kind(size - whole, 1, float=False)]
        with Coder(self.store) as coding:
            if digest in self.damaged and self.place(digest).parent.parent.name == "blobs":
                with pytest.raises(Corrupt):
                    coding.code(digest, kinds, [base])
                return
            if self.place(digest).parent.parent.name == "coded":
                assert coding.code(digest, kinds, [base]) == 0
                return
            coding.code(digest, kinds, [base])
        self.aged.discard(digest)
        with contextlib.closing(self.store.open_blob(digest)) as reading:
            named = getattr(reading, "base", None)
        if named is not None:
            assert named == base
            assert base not in self.based
            self.based[digest] = base

    @rule(digest=blobs)
    def decode(self, digest):
        if digest not in self.model:
            return
        with Coder(self.store) as coding:
            if digest in self.damaged and self.place(digest).parent.parent.name == "coded":
                with pytest.raises(Corrupt):
                    coding.decode(digest)
                return
            coding.decode(digest)
        self.based.pop(digest, None)
        if self.place(digest).lstat().st_mtime > time.time() - OLD / 2:
            self.aged.discard(digest)

    @rule(digest=blobs)
    def freshen(self, digest):
        assert self.store.freshen(digest) == (digest in self.model)
        self.aged.discard(digest)

    @invariant()
    def everything_needed_can_be_read(self):
        assert {info.digest for info in self.store.list()} == self.model.keys()
        for digest, data in self.model.items():
            if digest in self.damaged:
                with pytest.raises(Corrupt):
                    self.store.read(digest)
            else:
                assert self.store.read(digest) == data

    @invariant()
    def nothing_else_is_there(self):
        absent = digest_of(b"never put, surely")
        assert not self.store.has(absent)
        with pytest.raises(NotFound):
            self.store.read(absent)


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStore = StoreMachine.TestCase
