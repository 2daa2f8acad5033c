"""The local store against a dictionary: whatever is put and still needed can be read, always."""

from __future__ import annotations

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
from holdfast.store.local import LocalStore

OLD = 10_000.0


class StoreMachine(RuleBasedStateMachine):
    """Puts, deletions that are refused half-way, damage and healing, in any order."""

    blobs = Bundle("blobs")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = LocalStore.create(self.folder / "store")
        self.model: dict[str, bytes] = {}
        self.damaged: set[str] = set()
        self.aged: set[str] = set()

    def teardown(self):
        shutil.rmtree(self.folder)

    def place(self, digest):
        return self.store.path / "blobs" / "sha256" / digest_hex(digest)

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
        assert was_damaged == (digest in self.damaged)
        return digest

    @rule(digest=blobs, needed=st.booleans(), old=st.booleans())
    def delete(self, digest, needed, old):
        if digest not in self.model:
            return
        if old:
            self.age(digest)
            self.aged.add(digest)
        freed = self.store.delete([digest], still_needed=lambda _: needed, grace=60.0)
        gone = digest in self.aged and not needed
        assert (freed > 0) == (gone and len(self.model[digest]) > 0)
        if gone:
            del self.model[digest]
            self.damaged.discard(digest)
            self.aged.discard(digest)

    @rule(digest=blobs)
    def damage(self, digest):
        if not self.model.get(digest):
            return
        place = self.place(digest)
        place.chmod(0o644)
        self.aged.discard(digest)
        place.write_bytes(bytes([self.model[digest][0] ^ 1]) + self.model[digest][1:])
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


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestStore = StoreMachine.TestCase
