"""Forged, forked and damaged logs: refused with the name and the entry."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.history import VersionInfo
from holdfast.errors import Corrupt, NotFound
from holdfast.record import canonical, digest_of

Add = Callable[..., VersionInfo]
Forge = Callable[..., bytes]


@pytest.fixture(name="log")
def log_of_five_entries(root: Path, catalogue: Catalogue, add: Add) -> Path:
    add()
    add()
    catalogue.set_alias("churn", "prod", 1, by="ada")
    catalogue.pin("churn", 2, by="ada")
    add()
    return root / "log" / "churn"


def summed(fields: dict[str, Any]) -> bytes:
    """Encode an entry with its own digest, as a forger would."""
    bare = canonical({key: value for key, value in fields.items() if key != "digest"})
    return canonical({**json.loads(bare), "digest": digest_of(bare)})


def attached(**changes: Any) -> dict[str, Any]:
    """Return what makes an entry one that attaches a blob, but for what it should not say."""
    sound = {"version": 1, "role": "pylock", "blob": "sha256:" + "0" * 64, "size": 7}
    return {"kind": "attach", "body": {**sound, **changes}}


def entry(log: Path, seq: int) -> Path:
    return log / f"{seq:08d}.json"


@pytest.fixture(name="forge")
def forger(log: Path) -> Forge:
    """Replace fields of an entry by one that is sound in every other way."""

    def forge(seq: int, /, **changes: Any) -> bytes:
        fields = json.loads(entry(log, seq).read_bytes())
        body = {**fields["body"], **changes.pop("body", {})}
        data = summed({**fields, "body": body, **changes})
        entry(log, seq).unlink()
        entry(log, seq).write_bytes(data)
        return data

    return forge


def refused(opened: Callable[[], Catalogue], seq: int, reason: str) -> None:
    """A catalogue with a new index and one with the index on disk both refuse the log."""
    message = f"The log of churn is damaged or forged at entry {seq}: .*{re.escape(reason)}"
    asks: list[Callable[[Catalogue], Any]] = [
        lambda catalogue: catalogue.check_chain("churn"),
        lambda catalogue: catalogue.history("churn"),
        lambda catalogue: list(catalogue.live()),
    ]
    for ask in asks:
        with pytest.raises(Corrupt, match=message) as caught:
            ask(opened())
        assert caught.value.hint == "hold log churn"
        assert caught.value.ref == "churn"


def test_a_good_chain_passes(log: Path, opened: Callable[[], Catalogue]) -> None:
    opened().check_chain("churn")
    assert len(list(log.iterdir())) == 5


def test_each_entry_names_the_digest_of_the_one_before(log: Path) -> None:
    before = None
    for seq in range(1, 6):
        data = entry(log, seq).read_bytes()
        assert json.loads(data).get("prev") == before
        before = digest_of(data)


@pytest.mark.parametrize(
    ("seq", "changes", "reason"),
    [
        (1, {"name": "other"}, "it belongs to 'other'"),
        (2, {"seq": 7}, "it has the number 7"),
        (2, {"prev": "sha256:" + "0" * 64}, "it does not continue the entry before it"),
        (1, {"prev": "sha256:" + "0" * 64}, "it does not continue the entry before it"),
        (5, {"kind": "exec"}, "it is of the kind 'exec'"),
        (5, {"at": "2001-01-01T00:00:00.000000Z"}, "its time is not a moment after"),
        (5, {"at": "soon"}, "its time is not a moment"),
        (5, {"format": "holdfast/2"}, "format 'holdfast/2'"),
        (5, {"by": 7}, "log entry"),
        (5, {"body": {"version": 5}}, "it saves version 5 after 2"),
        (5, {"body": {"version": 2}}, "it saves version 2 after 2"),
        (1, {"body": {"version": True}}, "it saves version True after 0"),
        (5, {"body": {"record": "../../etc/passwd"}}, "not a digest"),
        (3, {"body": {"to": 9}}, "it speaks of version 9, which is not there"),
        (3, {"body": {"from": 2}}, "it says that prod named another version"),
        (3, {"body": {"alias": "v2"}}, "cannot be an alias"),
        (3, {"body": {"to": None}}, "it removes the alias prod, which is not there"),
        (3, {"body": {"reason": ["x"]}}, "reason is not a text"),
        (4, {"body": {"until": "never"}}, "it is malformed"),
        (4, {"kind": "tag"}, "it is malformed"),
        (5, {"kind": "attach", "body": {"version": 1}}, "it is malformed"),
        (5, attached(version=3), "it speaks of version 3, which is not there"),
        (5, attached(version=True), "it speaks of version True"),
        (5, attached(role="../pylock"), "'../pylock' is not a role"),
        (5, attached(role="x" * 41), "is not a role"),
        (5, attached(role=["pylock"]), "is not a role"),
        (5, attached(role=""), "'' is not a role"),
        (5, attached(blob="../../etc/passwd"), "not a digest"),
        (5, attached(blob=None), "not a digest"),
        (5, attached(size=-1), "-1 is not a size"),
        (5, attached(size=True), "True is not a size"),
        (5, attached(size="7"), "'7' is not a size"),
        (4, {"kind": "forget", "body": {"versions": [1]}}, "the alias prod names it"),
    ],
)
def test_a_forged_entry_is_refused(
    forge: Forge, opened: Callable[[], Catalogue], seq: int, changes: dict[str, Any], reason: str
) -> None:
    forge(seq, **changes)
    refused(opened, seq, reason)


def test_roles_of_later_releases_survive(forge: Forge, opened: Callable[[], Catalogue]) -> None:
    forge(5, **attached(role="signature-2", size=0))
    for _ in range(2):
        info = opened().resolve("churn", 1)
        assert info.attachments["signature-2"].size == 0
    assert opened().history("churn").versions[1] == info


@pytest.mark.parametrize("seq", [1, 2, 3, 4])
def test_a_rewritten_past_breaks_the_chain(
    forge: Forge, opened: Callable[[], Catalogue], seq: int
) -> None:
    forge(seq, by="mallory")
    refused(opened, seq + 1, "it does not continue the entry before it")


@pytest.mark.parametrize("seq", [3, 5])
def test_a_flipped_byte_anywhere_is_found(
    log: Path, opened: Callable[[], Catalogue], seq: int
) -> None:
    data = entry(log, seq).read_bytes()
    entry(log, seq).chmod(0o644)
    for place in range(len(data)):
        entry(log, seq).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(Corrupt, match=rf"at entry {seq}: "):
            opened().check_chain("churn")


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[" * 100_000, b"\xff\xfe", b'{"a":NaN}'])
def test_an_entry_that_is_no_entry(log: Path, opened: Callable[[], Catalogue], data: bytes) -> None:
    entry(log, 2).unlink()
    entry(log, 2).write_bytes(data)
    refused(opened, 2, "")


@pytest.mark.parametrize("seq", [1, 2, 4])
def test_a_missing_entry_is_missed(
    log: Path, opened: Callable[[], Catalogue], root: Path, seq: int
) -> None:
    entry(log, seq).unlink()
    refused(opened, seq, "it is missing, and entry 5 is there")
    (root / "index.sqlite").unlink()
    with pytest.raises(Corrupt, match="it is missing"):
        opened().resolve("churn", None)
    (model,) = opened().names()
    assert "it is missing" in str(model.damage)
    assert (model.newest, model.count, model.aliases) == (None, 0, ())


def test_nothing_is_added_behind_a_gap(log: Path, root: Path, add: Add) -> None:
    entry(log, 4).unlink()
    entry(log, 5).rename(entry(log, 6))
    (root / "index.sqlite").unlink()
    with pytest.raises(Corrupt, match="at entry 4: it is missing, and entry 6 is there"):
        add()
    assert not entry(log, 4).exists()


def test_a_forked_log_is_refused(
    log: Path, catalogue: Catalogue, add: Add, opened: Callable[[], Catalogue]
) -> None:
    ours = entry(log, 5).read_bytes()
    entry(log, 5).unlink()
    catalogue.set_alias("churn", "stage", 2, by="bob")
    theirs = entry(log, 5).read_bytes()
    add()
    opened().check_chain("churn")
    entry(log, 5).unlink()
    entry(log, 5).write_bytes(ours)
    assert ours != theirs
    refused(opened, 6, "it does not continue the entry before it")


def test_a_last_entry_that_was_replaced_is_seen_by_the_next_look(
    log: Path, catalogue: Catalogue, forge: Forge
) -> None:
    assert catalogue.resolve("churn", None).by == "ada"
    forge(5, by="mallory")
    assert catalogue.resolve("churn", None).by == "mallory"
    forge(5, kind="exec")
    with pytest.raises(Corrupt, match="'exec', which this release does not know"):
        catalogue.resolve("churn", None)


def test_a_moment_asked_of_a_forged_log(forge: Forge, opened: Callable[[], Catalogue]) -> None:
    forge(2, at="soon")
    with pytest.raises(Corrupt, match="at entry 2: its time is not a moment"):
        opened().history("churn", "2999-01-01")


def test_one_bad_name_leaves_the_others_usable(
    forge: Forge, opened: Callable[[], Catalogue], add: Add
) -> None:
    add("net")
    forge(5, kind="exec")
    assert opened().resolve("net", None).number == 1
    opened().check_chain("net")
    with pytest.raises(Corrupt):
        opened().resolve("churn", None)
    with pytest.raises(NotFound):
        opened().check_chain("nothing")
