"""The reader against Python's own unpicklers, the one in C and the one in Python.

Whatever they import and call before they end or fail must be described, in their order; whatever
plain values they build must be what was read. Their imports give a class of ours that only writes
down what is done with it, so nothing else ever runs.
"""

import io
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from holdfast.trust.pickles import Call, Global, LongBytearray, Members, Pairs, Persistent, read
from holdfast.trust.report import Severity


class Stands:
    """Makes classes that write down what is done with them."""

    def __init__(self):
        self.events = []

    def imported(self, module, name):
        events = self.events
        events.append(("import", module, name))

        class Stand:
            def __new__(cls, *args, **named):
                events.append(("call",))
                return object.__new__(cls)

            def __init__(self, *args, **named):
                pass

            def __call__(self, *args, **named):
                events.append(("call",))
                return self

            def ignore(self, *args):
                pass

            append = extend = add = __setitem__ = __setstate__ = ignore

        return Stand


# The C unpickler reads ahead where it can peek into a file, and forgets bytes where it cannot.
UNPICKLERS = (
    lambda data: run(pickle.Unpickler, io.BytesIO(data)),
    lambda data: run(pickle.Unpickler, io.BufferedReader(io.BytesIO(data))),
    lambda data: run(pickle._Unpickler, io.BytesIO(data)),
)


def run(unpickler, file):
    """Return (value, events, error) of an unpickler whose imports are stands."""
    stands = Stands()

    class Harmless(unpickler):
        def find_class(self, module, name):
            return stands.imported(module, name)

        def persistent_load(self, key):
            return ("persistent", str(key))

    try:
        return Harmless(file).load(), stands.events, None
    except Exception as error:  # noqa: BLE001 - unpicklers raise whatever they like
        return None, stands.events, error


def described(reading):
    """Return the imports and calls of a reading in the order of an unpickler."""
    found = [(item.position, 0, ("import", item.module, item.name)) for item in reading.globals]
    found += [(call.position, 1, ("call",)) for call in reading.calls]
    return [event for _, _, event in sorted(found, key=lambda each: each[:2])]


def in_python_3(event):
    """Return an import under the names that it may have in Python 3."""
    if event[0] != "import":
        return {event}
    module, name = event[1:]
    renamed = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
    return {event, ("import", *renamed)}


def plain(value):
    """Return a value of the graph as Python has it; raises where it is none."""
    if isinstance(value, tuple | list):
        return type(value)(plain(item) for item in value)
    if isinstance(value, Pairs):
        return {plain(key): plain(item) for key, item in value.items}
    if isinstance(value, Members):
        return (frozenset if value.frozen else set)(plain(item) for item in value.items)
    if isinstance(value, LongBytearray):
        return bytearray(value.data)
    if isinstance(value, Persistent):
        return ("persistent", str(plain(value.key)))
    return bytes(value) if isinstance(value, memoryview) else value


def is_symbolic(value):
    seen, todo = set(), [value]
    while todo:
        each = todo.pop()
        if isinstance(each, Call | Global):
            return True
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, tuple | list):
            todo += each
        elif isinstance(each, Members):
            todo += each.items
        elif isinstance(each, Pairs):
            todo += [part for pair in each.items for part in pair]
    return False


def judge(data):
    reading = read(data, joblib=False)
    if any(finding.severity is Severity.UNSAFE for finding in reading.findings):
        return  # it says itself that it does not describe everything
    told = described(reading)
    for unpickle in UNPICKLERS:
        value, events, error = unpickle(data)
        assert len(told) >= len(events), (events, told, reading.findings)
        for did, said in zip(events, told, strict=False):
            assert said in in_python_3(did), (events, told)
        if error is None:
            assert reading.end is not None, reading.findings
            if reading.whole and not is_symbolic(reading.root):
                assert repr_of(plain(reading.root)) == repr_of(value)


def repr_of(value):
    """Return a text that tells equal values of equal types, whatever the order of a set's."""
    if isinstance(value, set | frozenset):
        return type(value).__name__ + repr(sorted(map(repr_of, value)))
    if isinstance(value, tuple | list):
        return type(value).__name__ + repr([repr_of(item) for item in value])
    if isinstance(value, dict):
        return "dict" + repr([(repr_of(key), repr_of(item)) for key, item in value.items()])
    return repr(bytes(value)) if isinstance(value, memoryview) else repr(value)


ONE_BYTE = [
    bytes([code])
    for code in b"N](})t012aeslduoRbQ.\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"
]
TEXTS = st.sampled_from(
    [
        *(b"", b"a", b"os", b"system", b"0", b"01", b"00", b"1", b"12", b"-3", b"0x1f", b"017"),
        *(b"1_0", b" 7", b"7 ", b"1\x00", b"5L", b"1e3", b".5", b"nan", b"'x'", b'"\\x41"'),
        *(b"'\\n'", b"'\\'", b"'\\q'", b"\\u0041", b"\\x", b"\xff", b"\xc3\xa9", b"eval", b"a.b"),
        b"__builtin__",
    ]
)
LINES = st.builds(
    lambda opcode, text: opcode + text + b"\n",
    st.sampled_from([b"I", b"L", b"F", b"S", b"V", b"g", b"p", b"P"]),
    TEXTS,
)
NAMES = st.builds(
    lambda opcode, module, name: opcode + module + b"\n" + name + b"\n",
    st.sampled_from([b"c", b"i"]),
    TEXTS,
    TEXTS,
)
# Opcodes that say in so many bytes how much follows.
WIDTHS = {
    **dict.fromkeys([b"U", b"C", b"\x8c", b"\x8a"], 1),
    **dict.fromkeys([b"T", b"B", b"X", b"\x8b"], 4),
    **dict.fromkeys([b"\x8e", b"\x8d", b"\x96"], 8),
}
COUNTED = st.builds(
    lambda opcode, data, lie: (
        opcode + max(len(data) + lie, 0).to_bytes(WIDTHS[opcode], "little") + data
    ),
    st.sampled_from(sorted(WIDTHS)),
    TEXTS,
    st.sampled_from([0, 0, 0, 0, 1, -1]),
)
ANY_NUMBER = st.builds(
    lambda opcode, data: opcode[:1] + data[: opcode[1]],
    st.sampled_from([b"K\x01", b"M\x02", b"J\x04", b"G\x08", b"\x80\x01", b"\x84\x04"]),
    st.binary(min_size=8, max_size=8),
)
# The C unpickler sets memory aside for whatever number an entry of the memo has.
SMALL_NUMBER = st.builds(
    lambda opcode, number: opcode[:1] + number.to_bytes(opcode[1], "little"),
    st.sampled_from([b"h\x01", b"q\x01", b"j\x04", b"r\x04", b"\x82\x01", b"\x83\x02"]),
    st.integers(0, 5),
)
FRAMES = st.integers(0, 40).map(lambda n: b"\x95" + n.to_bytes(8, "little"))
# Pieces that make sense together, so that calls happen often.
PHRASES = st.sampled_from(
    [
        *(b"cos\nsystem\n", b"(S'x'\ntR", b")R", b"(}d", b"]N\x94a", b"cos\nsystem\n)\x81}b"),
        *(b"(cos\nx\nNo", b"(Nios\nx\n", b"\x8c\x02os\x8c\x01x\x93", b"}(K\x01K\x02u"),
        *(b"\x8f(K\x01\x90", b"(K\x01\x91", b"q\x00", b"h\x00", b"\x94", b"\x80\x02", b"\x80\x04"),
        *(b"(K\x01K\x02t", b"K\x01\x85", b"0", b"(1"),
    ]
)
PIECES = st.one_of(
    *(PHRASES, PHRASES, st.sampled_from(ONE_BYTE), LINES, NAMES, COUNTED),
    *(ANY_NUMBER, SMALL_NUMBER, FRAMES),
)
STREAMS = st.lists(PIECES, max_size=14).map(b"".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STREAMS, st.sampled_from([b".", b".", b""]))
@example(b"cos\nsystem", b"")  # Python's own takes a last line without its end, less a byte
@example(b"(S'x'\nios\nsystemX", b"")
@example(b"\x80\x04\x95\xff\xff\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'x'\ntR", b".")
@example(b"cos\nsystem\n]S'x'\naR", b".")  # a list for arguments
@example(b"]}b", b".")
@example(b"]NN\x86b", b".")
@example(b"](K\x01K\x02e" + b"K\x00N" + b"s", b".")
@example(b"\x96\x02\x00\x00\x00\x00\x00\x00\x00abK\x05a", b".")
@example(b"cos\nenviron\nS'x'\na", b".")
def test_whatever_an_unpickler_does_is_described(stream, end):
    judge(stream + end)


PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=3000),
        st.binary(max_size=3000).map(bytearray), st.integers(1 << 2040, 1 << 2060),
    ),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text(), inner),
        st.dictionaries(st.integers(), inner), st.sets(st.integers()), st.frozensets(st.text()),
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLAIN, st.integers(0, 5))
def test_plain_values_are_read_as_unpickling_gives_them(value, protocol):
    data = pickle.dumps(value, protocol)
    reading = read(data)
    assert reading.end == len(data)
    assert not reading.findings
    if protocol == 5:
        assert repr_of(plain(reading.root)) == repr_of(value)
    judge(data)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLAIN, st.integers(0, 5), st.data())
def test_damaged_pickles_are_read_as_far_as_an_unpickler_goes(value, protocol, data):
    content = bytearray(pickle.dumps((value, OSError(1), {"a": value}), protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    # Python's own unpickler would set aside as much memory as a damaged length claims.
    if (
        max((int.from_bytes(content[i : i + 8], "little") for i in _eights(content)), default=0)
        < 1e6
    ):
        judge(bytes(content))
    else:
        read(bytes(content))


def _eights(content):
    return [i + 1 for i, code in enumerate(content) if code in b"\x8d\x8e\x96\x95rjTBX\x8b"]


@pytest.mark.parametrize("protocol", range(6))
def test_shared_and_circular_values_keep_their_identity(protocol):
    shared = [1]
    value = [shared, shared, {"self": None}]
    value[2]["self"] = value
    reading = read(pickle.dumps(value, protocol))
    root = reading.root
    assert root[0] is root[1]
    assert root[2].items[0][1] is root
