import datetime as dt
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.catalogue.history import VersionInfo
from holdfast.errors import Conflict, HoldfastError, NotFound, UsageError
from holdfast.record import digest_of

Add = Callable[..., VersionInfo]


class Meddling(DiskLog):
    """A log on which somebody else acts just before an append."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "log", root / "tmp")
        self.acts: Iterator[Callable[[], object]] = iter(())

    def append(self, name: str, seq: int, data: bytes, after: str | None = None) -> bool:
        for act in self.acts:
            act()
            break
        return super().append(name, seq, data, after)


@pytest.fixture(name="meddling")
def log_with_a_second_writer(root: Path) -> Meddling:
    return Meddling(root)


def test_versions_are_numbered_from_one(catalogue: Catalogue, add: Add) -> None:
    infos = [add(content=text) for text in ("a", "b", "a")]
    assert [info.number for info in infos] == [1, 2, 3]
    assert catalogue.versions("churn") == infos
    assert infos[0].content == infos[2].content == digest_of(b"a")
    assert infos[1].manifest == digest_of(b"b manifest")
    assert infos[0].by == "ada"
    assert catalogue.by_content("churn", digest_of(b"a")) == [infos[0], infos[2]]


def test_names_at_a_glance(catalogue: Catalogue, add: Add) -> None:
    assert catalogue.names() == []
    for name in ("net", "churn", "churn"):
        add(name)
    catalogue.set_alias("churn", "prod", 1, by="ada")
    catalogue.forget("churn", [2], by="ada")
    seen = [(m.name, m.newest, m.count, m.aliases, m.last_seq) for m in catalogue.names()]
    assert seen == [("churn", 1, 1, ("prod",), 4), ("net", 1, 1, (), 1)]


@pytest.mark.parametrize("name", ["Churn", "a/b", "", "a--b", "a.", "x" * 129, "ü", "a\n"])
def test_names_that_cannot_be(catalogue: Catalogue, add: Add, root: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        add(name)
    for ask in (catalogue.versions, catalogue.history, lambda n: catalogue.resolve(n, None)):
        with pytest.raises((UsageError, NotFound)):
            ask(name)
    assert list((root / "log").iterdir()) == []


@pytest.mark.parametrize("alias", ["v3", "latest", "newest", "sha256", "Prod", "", "a b"])
def test_aliases_that_cannot_be(catalogue: Catalogue, add: Add, alias: str) -> None:
    add()
    with pytest.raises(UsageError, match="cannot be an alias"):
        catalogue.set_alias("churn", alias, 1, by="ada")


def test_resolve(catalogue: Catalogue, add: Add) -> None:
    first, second = add(content="a"), add(content="b")
    catalogue.set_alias("churn", "prod", 1, by="ada")
    assert catalogue.resolve("churn", None) == second
    assert catalogue.resolve("churn", 2) == second
    assert catalogue.resolve("churn", "prod").number == 1
    assert catalogue.resolve("churn", first.content).number == 1
    assert catalogue.resolve("churn", second.record[:11]).number == 2


def test_digits_of_several_contents_are_refused(catalogue: Catalogue, add: Add) -> None:
    texts = [f"{number}" for number in range(700)]
    heads: dict[str, str] = {}
    pair = next(
        (heads[head], text)
        for text in texts
        if heads.setdefault(head := digest_of(text.encode())[:11], text) != text
    )
    for text in pair:
        add(content=text)
    with pytest.raises(UsageError, match="fits several versions: v1, v2"):
        catalogue.resolve("churn", digest_of(pair[0].encode())[:11])
    for text in ("sha256:123", "sha256:ABCD", "sha256:" + "1" * 65, "sha256:12%4"):
        with pytest.raises(UsageError, match="4 to 64"):
            catalogue.resolve("churn", text)


def test_the_same_content_twice_means_the_newest(catalogue: Catalogue, add: Add) -> None:
    add()
    assert catalogue.resolve("churn", add().content).number == 2


def test_what_is_not_found_is_answered_with_what_is_near(catalogue: Catalogue, add: Add) -> None:
    add("churn-eu")
    with pytest.raises(NotFound, match=r"no model 'chrun-eu' .* Near: churn-eu") as caught:
        catalogue.resolve("chrun-eu", None)
    assert caught.value.hint == "hold ls churn-eu"
    with pytest.raises(NotFound, match="Near: churn-eu"):
        catalogue.versions("churn-e")
    with pytest.raises(NotFound, match="no model 'zebra'") as caught:
        catalogue.history("zebra")
    assert "Near" not in str(caught.value)
    catalogue.set_alias("churn-eu", "prod", 1, by="ada")
    for selector in (7, "stage", "sha256:0123"):
        with pytest.raises(NotFound, match="newest version is v1; aliases: prod"):
            catalogue.resolve("churn-eu", selector)


def test_an_alias_tells_what_it_replaced(catalogue: Catalogue, add: Add) -> None:
    add()
    add()
    catalogue.set_alias("churn", "prod", 1, by="ada", reason="first")
    catalogue.set_alias("churn", "prod", 2, by="bob", reason="better")
    state = catalogue.history("churn").aliases["prod"]
    assert (state.version, state.by, state.reason, state.replaced) == (2, "bob", "better", 1)
    assert [info.aliases for info in catalogue.versions("churn")] == [(), ("prod",)]
    catalogue.set_alias("churn", "prod", None, by="bob")
    assert catalogue.history("churn").aliases == {}
    body = catalogue.history("churn").entries[-1].body
    assert body == {"alias": "prod", "to": None, "from": 2, "reason": None}


def test_an_alias_that_moved_meanwhile_is_a_conflict(catalogue: Catalogue, add: Add) -> None:
    add()
    add()
    catalogue.set_alias("churn", "prod", 1, by="ada")
    for seen in (2, None):
        with pytest.raises(Conflict, match=r"now it names v1 since .*, by ada"):
            catalogue.set_alias("churn", "prod", 2, by="bob", replaced=seen)
    with pytest.raises(Conflict, match="you saw v1, now it was removed"):
        catalogue.set_alias("churn", "stage", 2, by="bob", replaced=1)
    assert catalogue.history("churn").seq == 3


def test_a_race_for_an_alias_has_one_winner(
    catalogue: Catalogue, meddling: Meddling, add: Add
) -> None:
    add()
    add()
    meddling.acts = iter([lambda: catalogue.set_alias("churn", "prod", 1, by="ada")])
    with pytest.raises(Conflict, match="now it names v1"):
        Catalogue(meddling, None).set_alias("churn", "prod", 2, by="bob")
    assert catalogue.resolve("churn", "prod").number == 1


def test_eight_threads_race_for_an_alias(catalogue: Catalogue, add: Add) -> None:
    for _ in range(8):
        add()
    start = threading.Barrier(8)

    def race(number: int) -> bool:
        start.wait()
        try:
            catalogue.set_alias("churn", "prod", number, by=f"thread {number}", replaced=None)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(1, 9)))
    assert won.count(True) == 1
    assert catalogue.resolve("churn", "prod").number == won.index(True) + 1


@pytest.mark.parametrize("act", ["alias", "tag", "pin", "forget"])
def test_a_version_forgotten_meanwhile_is_not_spoken_of(
    catalogue: Catalogue, meddling: Meddling, add: Add, act: str
) -> None:
    add()
    add()
    meddling.acts = iter([lambda: catalogue.forget("churn", [1], by="bob")])
    late = Catalogue(meddling, None)
    acts: dict[str, Callable[[], None]] = {
        "alias": lambda: late.set_alias("churn", "prod", 1, by="ada"),
        "tag": lambda: late.tag("churn", 1, set_={"a": "b"}, unset=[], by="ada"),
        "pin": lambda: late.pin("churn", 1, by="ada"),
        "forget": lambda: late.forget("churn", [1], by="ada"),
    }
    with pytest.raises(NotFound, match="v1 was forgotten"):
        acts[act]()
    catalogue.check_chain("churn")
    assert [info.number for info in catalogue.versions("churn")] == [2]


def test_a_version_that_got_an_alias_meanwhile_is_not_forgotten(
    catalogue: Catalogue, meddling: Meddling, add: Add
) -> None:
    add()
    meddling.acts = iter([lambda: catalogue.set_alias("churn", "prod", 1, by="bob")])
    with pytest.raises(UsageError, match="the alias prod names it"):
        Catalogue(meddling, None).forget("churn", [1], by="ada")
    assert catalogue.resolve("churn", "prod").number == 1


def test_tags(catalogue: Catalogue, add: Add) -> None:
    add()
    catalogue.tag("churn", 1, set_={"stage": "test", "ticket": "X-1"}, unset=[], by="ada")
    catalogue.tag("churn", 1, set_={"stage": "live"}, unset=["ticket", "nothing"], by="ada")
    assert catalogue.resolve("churn", 1).tags == {"stage": "live"}
    with pytest.raises(NotFound):
        catalogue.tag("churn", 2, set_={"a": "b"}, unset=[], by="ada")


@pytest.mark.parametrize(
    ("until", "kept"), [(None, True), ("2999-12-31", True), ("2020-01-01", False)]
)
def test_a_pin_holds_until_its_day(
    catalogue: Catalogue, add: Add, until: str | None, *, kept: bool
) -> None:
    add()
    catalogue.pin("churn", 1, by="ada", until=until, reason="audit")
    pinned = catalogue.resolve("churn", 1).pinned
    assert pinned is not None
    assert (pinned.until, pinned.reason, pinned.by) == (until, "audit", "ada")
    if kept:
        with pytest.raises(UsageError, match="pinned") as caught:
            catalogue.forget("churn", [1], by="ada")
        assert caught.value.hint == "hold pin churn@v1 --release --reason WHY"
        catalogue.unpin("churn", 1, by="ada")
    catalogue.forget("churn", [1], by="ada")
    assert catalogue.versions("churn") == []


def test_forget_is_all_or_nothing(catalogue: Catalogue, add: Add) -> None:
    for _ in range(3):
        add()
    catalogue.set_alias("churn", "prod", 2, by="ada")
    with pytest.raises(UsageError, match="churn@v2 is kept, because the alias prod names it"):
        catalogue.forget("churn", [1, 2], by="ada")
    with pytest.raises(NotFound):
        catalogue.forget("churn", [1, 9], by="ada")
    assert [info.number for info in catalogue.versions("churn")] == [1, 2, 3]
    catalogue.forget("churn", [3, 1, 3], by="ada", reason="old")
    assert [info.number for info in catalogue.versions("churn")] == [2]
    assert [info.number for info in catalogue.live()] == [2]
    with pytest.raises(NotFound, match="v1 was forgotten"):
        catalogue.resolve("churn", 1)


def test_numbers_are_never_reused(catalogue: Catalogue, add: Add) -> None:
    add()
    add()
    catalogue.forget("churn", [1, 2], by="ada")
    with pytest.raises(NotFound, match="All versions of churn were forgotten"):
        catalogue.resolve("churn", None)
    assert add().number == 3


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.pin("churn", 1, by="ada", until="tomorrow"),
        lambda c: c.tag("churn", 1, set_={"a": 7}, unset=[], by="ada"),
        lambda c: c.tag("churn", 1, set_={"a": "\ud800"}, unset=[], by="ada"),
        lambda c: c.set_alias("churn", "prod", 1, by="ada", reason=["x"]),
        lambda c: c.set_alias("churn", "prod", None, by="ada"),
        lambda c: c.pin("churn", 1, by=7),
        lambda c: c.forget("churn", [True], by="ada"),
    ],
)
def test_an_entry_no_reader_could_accept_is_not_written(
    catalogue: Catalogue, add: Add, act: Callable[[Catalogue], None]
) -> None:
    add()
    with pytest.raises(HoldfastError):
        act(catalogue)
    catalogue.check_chain("churn")
    assert catalogue.history("churn").seq == 1
    assert add().number == 2


def test_history_tells_every_act(catalogue: Catalogue, add: Add) -> None:
    add()
    catalogue.set_alias("churn", "prod", 1, by="bob", reason="launch")
    catalogue.tag("churn", 1, set_={"a": "b"}, unset=[], by="cy")
    catalogue.pin("churn", 1, by="dan")
    history = catalogue.history("churn")
    assert [(entry.seq, entry.kind, entry.by) for entry in history.entries] == [
        (1, "save", "ada"), (2, "alias", "bob"), (3, "tag", "cy"), (4, "pin", "dan"),
    ]  # fmt: skip
    assert history.versions[1] == catalogue.resolve("churn", 1)


def test_the_state_at_any_past_moment(catalogue: Catalogue, add: Add) -> None:
    add()
    catalogue.set_alias("churn", "prod", 1, by="ada")
    add()
    catalogue.set_alias("churn", "prod", 2, by="ada")
    moments = [entry.at for entry in catalogue.history("churn").entries]
    named = [
        {alias: state.version for alias, state in catalogue.history("churn", at).aliases.items()}
        for at in moments
    ]
    assert named == [{}, {"prod": 1}, {"prod": 1}, {"prod": 2}]
    assert catalogue.history("churn", "2020-01-01").versions == {}
    assert catalogue.history("churn", moments[3][:10]).seq == 4
    just_before = dt.datetime.fromisoformat(moments[2]) - dt.timedelta(microseconds=1)
    assert list(catalogue.history("churn", just_before).versions) == [1]
    with pytest.raises(UsageError, match="not a date"):
        catalogue.history("churn", "yesterday")


def test_time_never_runs_back_in_the_log(
    catalogue: Catalogue, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add()
    monkeypatch.setattr("holdfast.catalogue.catalogue._now", lambda: "2001-01-01T00:00:00.000000Z")
    assert add().at == first.at
    catalogue.check_chain("churn")
