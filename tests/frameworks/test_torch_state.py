import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402 - after the skip

from holdfast.errors import (  # noqa: E402
    EnvironmentMismatch,
    PartialLoad,
    Unsupported,
    UsageError,
)
from holdfast.frameworks.torch import (  # noqa: E402
    classes as torch_classes,
    predict,
    register,
)


class Tagger(nn.Module):
    """Words to tags: an LSTM, with a buffer outside the state_dict and a tied weight."""

    def __init__(self, words, tags, hidden=8):
        super().__init__()
        self.words, self.tags, self.hidden = words, tags, hidden
        self.embed = nn.Embedding(words, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.back = nn.Linear(hidden, words, bias=False)
        self.back.weight = self.embed.weight
        self.head = nn.Linear(hidden, tags)
        self.register_buffer("scale", torch.full((1,), 2.0), persistent=False)

    def forward(self, x):
        out, _ = self.lstm(self.embed(x))
        return self.head(out) * self.scale, self.back(out)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, 4)
        self.second = nn.Linear(4, 2)

    def forward(self, x):
        return self.second(self.first(x).relu())


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = {}

    def get_extra_state(self):
        return self.words

    def set_extra_state(self, state):
        self.words = state


class Plan(nn.Module):
    """Looks at its arguments while it is constructed."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self.seen = repr(plan)


class Moves(nn.Module):
    """The same class under another name: what a changed source looks like."""

    def __init__(self, width):
        super().__init__()
        self.width = width
        self.first = nn.Linear(width, 4)


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(torch_classes, "_REGISTERED", {})


def states_equal(a, b):
    left, right = a.state_dict(), b.state_dict()
    assert list(left) == list(right)
    assert all(torch.equal(left[name], right[name]) for name in right)


@pytest.mark.keeps("PyTorch", "modules of your own class with `into=`", "torch")
def test_own_class_loads_into_an_instance(torch_keeper):
    model = Tagger(11, 3)
    model.scale.fill_(5)
    payload = torch_keeper.pack(model)
    assert set(payload.tensors) == (set(model.state_dict()) | {"scale"}) - {"back.weight"}
    target = Tagger(11, 3)
    weight = target.embed.weight
    assert torch_keeper.unpack(payload, into=target) is target
    states_equal(target, model)
    assert target.embed.weight is weight
    assert target.back.weight is weight
    assert target.scale.item() == 5
    x = torch.tensor([[1, 2, 3]])
    for mine, theirs in zip(
        predict(target, "forward", x), predict(model, "forward", x), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_own_class_without_an_instance_says_what_it_needs(torch_keeper):
    payload = torch_keeper.pack(Tagger(11, 3))
    with pytest.raises(
        EnvironmentMismatch, match=r"^Needs \S+\.Tagger \(source [0-9a-f]{8}\)"
    ) as e:
        torch_keeper.unpack(payload)
    assert e.value.hint == 'holdfast.load("REF", into=Tagger(words=11, tags=3, hidden=8))'


def test_unknown_arguments_are_left_to_the_reader(torch_keeper):
    with pytest.raises(EnvironmentMismatch) as caught:
        torch_keeper.unpack(torch_keeper.pack(Net(3)))
    assert caught.value.hint == 'holdfast.load("REF", into=Net(...))'


def test_facts_tell_class_and_source(torch_keeper):
    (facts,) = torch_keeper.pack(Tagger(11, 3)).facts["classes"]
    assert facts == {"class": f"{__name__}.Tagger", "source": facts["source"]}
    assert len(facts["source"]) == 64


def test_arguments_of_any_plain_kind_are_complete_when_the_class_is_constructed(torch_keeper):
    register(Plan)
    plan = {"sizes": [1, [2, (3, None)]], 4: {"deep": [{"x": 0.5}]}}
    assert torch_keeper.roundtrip(Plan(plan)).seen == repr(plan)


def test_a_class_without_source_still_saves(torch_keeper):
    space = {"nn": nn, "__name__": "__main__"}
    exec(
        "class Note(nn.Module):\n  def __init__(self):\n"
        "    super().__init__()\n    self.l = nn.Linear(2, 2)\n",
        space,
    )
    payload = torch_keeper.pack(space["Note"]())
    with pytest.raises(EnvironmentMismatch, match=r"Needs __main__\.Note \(source not known\)"):
        torch_keeper.unpack(payload)
    states_equal(
        torch_keeper.unpack(payload, into=space["Note"]()),
        torch_keeper.unpack(payload, into=space["Note"]()),
    )


def test_a_registered_class_is_constructed_and_filled(torch_keeper):
    register(Tagger)
    model = Tagger(11, 3).eval()
    model.head.train()
    model.lstm.requires_grad_(requires_grad=False)
    before = torch.get_rng_state()
    loaded = torch_keeper.roundtrip(model)
    assert torch.equal(torch.get_rng_state(), before)
    states_equal(loaded, model)
    assert (loaded.words, loaded.tags, loaded.hidden) == (11, 3, 8)
    assert [m.training for m in loaded.modules()] == [m.training for m in model.modules()]
    assert [p.requires_grad for p in loaded.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]


def test_registered_arguments_are_read_by_the_callers_function(torch_keeper):
    register(Net, name="my-net", arguments=lambda net: {"width": net.first.in_features})
    payload = torch_keeper.pack(Net(5))
    assert payload.facts["classes"][0]["class"] == "my-net"
    assert torch_keeper.unpack(payload).first.in_features == 5


def test_a_registered_class_inside_torchs_containers(torch_keeper):
    register(Tagger)
    model = nn.ModuleDict({"a": nn.Sequential(Tagger(5, 2)), "b": nn.Linear(2, 2)})
    payload = torch_keeper.pack(model)
    assert "a.0.head.bias" in payload.tensors
    states_equal(torch_keeper.unpack(payload), model)


def test_own_class_inside_torchs_containers_loads_into(torch_keeper):
    model = nn.Sequential(Net(3), nn.BatchNorm1d(2), Tagger(3, 2))
    target = nn.Sequential(Net(3), nn.BatchNorm1d(2), Tagger(3, 2))
    torch_keeper.roundtrip(model, into=target)
    states_equal(target, model)


def test_a_changed_source_is_told(torch_keeper, caplog, monkeypatch):
    register(Tagger)
    payload = torch_keeper.pack(Tagger(5, 2))
    monkeypatch.setattr(torch_classes, "source_digest", lambda kind: "f" * 64)
    with caplog.at_level(logging.WARNING, "holdfast"):
        torch_keeper.unpack(payload)
    assert "the source of" in caplog.text
    assert "ffffffff now" in caplog.text


def test_same_source_is_not_told(torch_keeper, caplog):
    register(Tagger)
    torch_keeper.roundtrip(Tagger(5, 2))
    assert not caplog.messages


def test_a_registered_class_with_unknown_arguments_needs_an_instance(torch_keeper):
    register(Net)
    with pytest.raises(EnvironmentMismatch, match="arguments were not known"):
        torch_keeper.roundtrip(Net(3))


def test_a_constructor_that_changed_is_an_environment_mismatch(torch_keeper):
    payload = torch_keeper.pack(Tagger(5, 2))
    register(Net, name=f"{__name__}.Tagger")
    with pytest.raises(EnvironmentMismatch, match="cannot be constructed") as caught:
        torch_keeper.unpack(payload)
    assert "into=" in caught.value.hint


def test_a_class_that_makes_other_tensors_is_a_partial_load(torch_keeper):
    payload = torch_keeper.pack(Moves(3))
    register(Net, name=f"{__name__}.Moves", arguments=None)
    with pytest.raises(PartialLoad, match=r"second\.weight"):
        torch_keeper.unpack(payload)


@pytest.mark.parametrize("wrong", [int, Net(3), nn, None])
def test_only_module_classes_can_be_registered(wrong):
    with pytest.raises(UsageError, match="not a subclass"):
        register(wrong)


def test_one_name_stands_for_one_class():
    register(Net, name="n")
    register(Net, name="n")
    with pytest.raises(UsageError, match="already"):
        register(Tagger, name="n")


def test_extra_state_travels_with_the_tensors(torch_keeper):
    model = nn.Sequential(Remembers(), nn.Linear(2, 2))
    model[0].words["yes"] = 1
    target = nn.Sequential(Remembers(), nn.Linear(2, 2))
    torch_keeper.roundtrip(model, into=target)
    assert target[0].words == {"yes": 1}


def test_wrappers_are_refused_with_the_model_inside(torch_keeper):
    with pytest.raises(Unsupported, match="wraps") as caught:
        torch_keeper.pack(nn.DataParallel(nn.Linear(2, 2)))
    assert caught.value.hint == "holdfast.save(model.module, name)"


class TestStrict:
    def prefixed(self, model):
        return {f"module.{name}": tensor for name, tensor in model.state_dict().items()}

    def test_a_stored_prefix_is_named_with_its_cure(self, torch_keeper):
        model, target = Net(3), Net(3)
        before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
        payload = torch_keeper.pack(self.prefixed(model))
        with pytest.raises(PartialLoad) as caught:
            torch_keeper.unpack(payload, into=target)
        assert caught.value.message.startswith(
            "0 of 4 tensors matched. All stored names start with 'module.'"
        )
        assert caught.value.hint == 'holdfast.load("REF", into=model, rename="module.->")'
        assert all(torch.equal(target.state_dict()[name], before[name]) for name in before)
        torch_keeper.unpack(payload, into=target, rename="module.->")
        states_equal(target, model)

    def test_a_prefix_of_the_target_is_named_with_its_cure(self, torch_keeper):
        payload = torch_keeper.pack(Net(3).state_dict())
        target = nn.DataParallel(Net(3))
        with pytest.raises(PartialLoad, match=r"target's names start with 'module\.'") as caught:
            torch_keeper.unpack(payload, into=target)
        assert 'rename="->module."' in caught.value.hint
        torch_keeper.unpack(payload, into=target, rename="->module.")

    def test_two_prefixes_are_exchanged(self, torch_keeper):
        payload = torch_keeper.pack({f"a.b.{k}": v for k, v in Net(3).state_dict().items()})
        with pytest.raises(PartialLoad) as caught:
            torch_keeper.unpack(payload, into=nn.DataParallel(Net(3)))
        assert 'rename="a.b.->module."' in caught.value.hint

    def test_a_prefix_is_not_offered_when_shapes_differ_too(self, torch_keeper):
        payload = torch_keeper.pack(self.prefixed(Net(3)))
        with pytest.raises(PartialLoad, match="Stored but not in the target") as caught:
            torch_keeper.unpack(payload, into=Net(5))
        assert "rename" not in caught.value.hint

    def test_all_kinds_of_differences_are_listed(self, torch_keeper):
        state = Net(3).state_dict()
        state["odd"] = state.pop("second.bias")
        state["second.weight"] = state["second.weight"].double()
        with pytest.raises(PartialLoad) as caught:
            torch_keeper.unpack(torch_keeper.pack(state), into=Net(5))
        message = caught.value.message
        assert message.startswith("1 of 4 tensors matched. Nothing was changed.")
        assert "Not stored: second.bias." in message
        assert "Stored but not in the target: odd." in message
        assert "first.weight (stored 4x3, target 4x5)" in message
        assert "second.weight (stored torch.float64, target torch.float32)" in message

    def test_long_lists_are_cut(self, torch_keeper):
        small = nn.Sequential(*[nn.Linear(2, 2) for _ in range(12)])
        big = nn.Sequential(*[nn.Linear(2, 2) for _ in range(16)])
        with pytest.raises(PartialLoad, match=r"24 of 32 .* and 3 more"):
            torch_keeper.roundtrip(small, into=big)

    def test_nothing_is_changed_by_a_refused_load(self, torch_keeper):
        target = Net(3)
        before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
        state = Net(3).state_dict()
        del state["second.bias"]
        with pytest.raises(PartialLoad, match="3 of 4"):
            torch_keeper.unpack(torch_keeper.pack(state), into=target)
        assert all(torch.equal(target.state_dict()[name], before[name]) for name in before)

    def test_a_whole_torch_model_loads_into_another(self, torch_keeper):
        model, target = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in "ab")
        torch_keeper.roundtrip(model, into=target)
        states_equal(target, model)

    def test_numpy_arrays_load_into_a_module(self, torch_keeper):
        from holdfast.frameworks.torch import match as torch_match

        model, target = Net(3), Net(3)
        arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        arrays["first.weight"] = np.asfortranarray(arrays["first.weight"])
        torch_match.fill(target, torch_match.flatten(arrays))
        states_equal(target, model)

    def test_tied_weights_of_the_target_need_equal_stored_values(self, torch_keeper):
        state = {k: v.clone() for k, v in Tagger(5, 2).state_dict().items()}
        torch_keeper.unpack(torch_keeper.pack(state), into=Tagger(5, 2))
        state["back.weight"] += 1
        target = Tagger(5, 2)
        before = target.embed.weight.clone()
        with pytest.raises(PartialLoad, match="one tensor in the target"):
            torch_keeper.unpack(torch_keeper.pack(state), into=target)
        assert torch.equal(target.embed.weight, before)

    def test_a_target_on_the_meta_device_takes_the_stored_memory(self, torch_keeper):
        model = Net(3)
        with torch.device("meta"):
            target = Net(3)
        torch_keeper.roundtrip(model, into=target)
        states_equal(target, model)
        assert isinstance(target.first.weight, nn.Parameter)

    def test_tied_weights_of_a_meta_target_stay_tied(self, torch_keeper):
        model = Tagger(5, 2)
        with torch.device("meta"):
            target = Tagger(5, 2)
        torch_keeper.roundtrip(model, into=target)
        assert target.embed.weight is target.back.weight
        states_equal(target, model)
        x = torch.tensor([[1, 2]])
        assert torch.equal(target(x)[0], model(x)[0])

    @pytest.mark.parametrize("rename", ["module.", "x.->", "->"])
    def test_a_bad_rename_is_a_usage_error_or_changes_nothing(self, torch_keeper, rename):
        payload = torch_keeper.pack(self.prefixed(Net(3)))
        with pytest.raises((UsageError, PartialLoad)):
            torch_keeper.unpack(payload, into=Net(3), rename=rename)

    def test_a_rename_that_makes_two_names_one_is_refused(self, torch_keeper):
        payload = torch_keeper.pack({"a.w": torch.ones(1), "w": torch.ones(1)})
        with pytest.raises(UsageError, match="same name"):
            torch_keeper.unpack(payload, rename="a.->")

    def test_a_plain_state_dict_can_be_renamed(self, torch_keeper):
        payload = torch_keeper.pack(self.prefixed(Net(3)))
        assert list(torch_keeper.unpack(payload, rename="module.->")) == list(Net(3).state_dict())

    def test_into_must_be_a_module(self, torch_keeper):
        with pytest.raises(UsageError, match=r"torch\.nn\.Module"):
            torch_keeper.roundtrip({"w": torch.ones(1)}, into={})

    def test_a_list_has_no_names(self, torch_keeper):
        with pytest.raises(UsageError, match="by name"):
            torch_keeper.roundtrip([torch.ones(1)], into=Net(3))

    def test_a_value_that_is_no_tensor_is_reported(self, torch_keeper):
        state = {**Net(3).state_dict(), "epoch": 3}
        with pytest.raises(PartialLoad, match="epoch"):
            torch_keeper.roundtrip(state, into=Net(3))

    def test_a_lazy_target_is_told_apart(self, torch_keeper):
        state = nn.Linear(2, 2).state_dict()
        with pytest.raises(PartialLoad, match="lazy"):
            torch_keeper.roundtrip(state, into=nn.LazyLinear(2))
