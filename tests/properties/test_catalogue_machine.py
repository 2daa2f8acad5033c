"""The catalogue against a model of plain dictionaries, under any order of acts."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.errors import NotFound, UsageError
from holdfast.record import digest_of

NAMES = st.sampled_from(["churn", "net.eu"])
ALIASES = st.sampled_from(["prod", "stage"])
NUMBERS = st.integers(1, 4)
KEYS = st.sampled_from(["a", "b"])


@dataclass
class Model:
    """One name, as simply as it can be said."""

    contents: list[str] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)
    tags: dict[int, dict[str, str]] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)
    attached: dict[int, str] = field(default_factory=dict)
    acts: int = 0
    past: list[dict[str, int]] = field(default_factory=list)

    def live(self) -> list[int]:
        return [n for n in range(1, len(self.contents) + 1) if n not in self.forgotten]

    def acted(self) -> None:
        self.acts += 1
        self.past.append(dict(self.aliases))


class CatalogueMachine(RuleBasedStateMachine):
    """Two catalogues act on one log, each with its own index; both must agree with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="holdfast-machine-"))
        for folder in ("log", "tmp"):
            (self.root / folder).mkdir()
        self.log = DiskLog(self.root / "log", self.root / "tmp")
        self.models: dict[str, Model] = {}
        self.catalogues = [self.reopened(0), self.reopened(1)]

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def reopened(self, who: int) -> Catalogue:
        return Catalogue(self.log, self.root / f"index-{who}.sqlite")

    @initialize()
    def something_is_there(self) -> None:
        self.add("churn", "first", 0)

    @rule(name=NAMES, content=st.sampled_from(["first", "second"]), who=st.integers(0, 1))
    def add(self, name: str, content: str, who: int) -> None:
        model = self.models.setdefault(name, Model())
        digest = digest_of(content.encode())
        info = self.catalogues[who].add_version(
            name, record=digest, content=digest, manifest=digest, by="me"
        )
        model.contents.append(digest)
        model.acted()
        assert info.number == len(model.contents)

    @rule(name=NAMES, alias=ALIASES, to=st.none() | NUMBERS, who=st.integers(0, 1))
    def move_alias(self, name: str, alias: str, to: int | None, who: int) -> None:
        catalogue, model = self.catalogues[who], self.models.get(name, Model())
        if to is None and alias not in model.aliases:
            with pytest.raises((UsageError, NotFound)):
                catalogue.set_alias(name, alias, None, by="me")
        elif to is not None and to not in model.live():
            with pytest.raises(NotFound):
                catalogue.set_alias(name, alias, to, by="me")
        else:
            catalogue.set_alias(name, alias, to, by="me")
            if to is None:
                del model.aliases[alias]
            else:
                model.aliases[alias] = to
            model.acted()

    @rule(name=NAMES, number=NUMBERS, key=KEYS, value=st.none() | st.text(max_size=3))
    def tag(self, name: str, number: int, key: str, value: str | None) -> None:
        model = self.models.get(name, Model())
        set_ = {} if value is None else {key: value}
        unset = [key] if value is None else []
        if number not in model.live():
            with pytest.raises(NotFound):
                self.catalogues[0].tag(name, number, set_=set_, unset=unset, by="me")
            return
        self.catalogues[0].tag(name, number, set_=set_, unset=unset, by="me")
        tags = model.tags.setdefault(number, {})
        tags.pop(key, None)
        tags.update(set_)
        model.acted()

    @rule(name=NAMES, number=NUMBERS, hold=st.booleans())
    def pin(self, name: str, number: int, *, hold: bool) -> None:
        model = self.models.get(name, Model())
        act = self.catalogues[1].pin if hold else self.catalogues[1].unpin
        if number not in model.live():
            with pytest.raises(NotFound):
                act(name, number, by="me")
            return
        act(name, number, by="me")
        (model.pinned.add if hold else model.pinned.discard)(number)
        model.acted()

    @rule(name=NAMES, number=NUMBERS, blob=st.sampled_from(["one", "two"]), who=st.integers(0, 1))
    def attach(self, name: str, number: int, blob: str, who: int) -> None:
        catalogue, model = self.catalogues[who], self.models.get(name, Model())
        digest = digest_of(blob.encode())
        if number not in model.live():
            with pytest.raises(NotFound):
                catalogue.attach(name, number, "pylock", blob=digest, size=3, by="me")
            return
        catalogue.attach(name, number, "pylock", blob=digest, size=3, by="me")
        model.attached[number] = digest
        model.acted()

    @rule(name=NAMES, numbers=st.sets(NUMBERS, min_size=1, max_size=2), who=st.integers(0, 1))
    def forget(self, name: str, numbers: set[int], who: int) -> None:
        catalogue, model = self.catalogues[who], self.models.get(name, Model())
        kept = model.pinned | set(model.aliases.values())
        if not numbers <= set(model.live()) or numbers & kept:
            with pytest.raises((NotFound, UsageError)):
                catalogue.forget(name, sorted(numbers), by="me")
            return
        catalogue.forget(name, sorted(numbers), by="me")
        model.forgotten |= numbers
        model.acted()

    @rule(who=st.integers(0, 1))
    def delete_the_index(self, who: int) -> None:
        for file in self.root.glob(f"index-{who}.sqlite*"):
            file.unlink()
        self.catalogues[who] = self.reopened(who)

    @invariant()
    def both_agree_with_the_model(self) -> None:
        for catalogue in self.catalogues:
            seen = [(m.name, m.count, m.aliases, m.last_seq) for m in catalogue.names()]
            assert seen == [
                (name, len(model.live()), tuple(sorted(model.aliases)), model.acts)
                for name, model in sorted(self.models.items())
            ]
            for name, model in self.models.items():
                self.agree(catalogue, name, model)

    def agree(self, catalogue: Catalogue, name: str, model: Model) -> None:
        infos = catalogue.versions(name)
        assert [info.number for info in infos] == model.live()
        for info in infos:
            number = info.number
            assert info.content == model.contents[number - 1]
            assert info.tags == model.tags.get(number, {})
            assert (info.pinned is not None) == (number in model.pinned)
            blobs = {role: found.blob for role, found in info.attachments.items()}
            newest = model.attached.get(number)
            assert blobs == ({} if newest is None else {"pylock": newest})
            assert info.aliases == tuple(
                sorted(alias for alias, to in model.aliases.items() if to == number)
            )
            assert catalogue.resolve(name, number) == info
        for alias, to in model.aliases.items():
            assert catalogue.resolve(name, alias).number == to

    @invariant()
    def the_log_tells_the_whole_past(self) -> None:
        for name, model in self.models.items():
            history = self.catalogues[0].history(name)
            assert history.seq == model.acts
            replayed = {"": 0}
            for entry, aliases in zip(history.entries, model.past, strict=True):
                if entry.kind == "alias":
                    replayed[entry.body["alias"]] = entry.body["to"] or 0
                assert {alias: to for alias, to in replayed.items() if to} == aliases


TestCatalogue = CatalogueMachine.TestCase
TestCatalogue.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
