"""How much memory a worker may take follows from what is free."""

import pytest

from holdfast.environment import memory

GIB = 1 << 30


@pytest.fixture(name="machine")
def make_machine(tmp_path, monkeypatch):
    """Return what says how much is free, of the machine and of its control group."""
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    monkeypatch.setattr(memory, "_of_machine", lambda: 100 * GIB)

    def say(**files):
        for name, text in files.items():
            (tmp_path / name.replace("_", ".", 1)).write_text(text, "ascii")

    return say


def test_the_machine_says_how_much_is_free():
    assert memory.free() is None or memory.free() > 0


def test_the_smaller_of_machine_and_group(machine):
    assert memory.free() == 100 * GIB
    machine(memory_max=f"{10 * GIB}\n", memory_current=f"{2 * GIB}\n")
    assert memory.free() == 8 * GIB
    assert memory.bound(0) == int(8 * GIB * 0.9)
    assert memory.bound(50 * GIB) == int(8 * GIB * 0.9) + 50 * GIB


@pytest.mark.parametrize(("most", "now"), [("max", "1"), ("", ""), ("-1", "7"), ("x", "y")])
def test_a_group_without_a_limit(machine, most, now):
    machine(memory_max=most, memory_current=now)
    assert memory.free() == 100 * GIB


def test_never_too_little_to_import_libraries(machine):
    machine(memory_max="1000", memory_current="5000")
    assert memory.free() == 0
    assert memory.bound(0) == 4 * GIB


def test_where_nothing_is_known_there_is_no_bound(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    assert memory.bound(0) is None
