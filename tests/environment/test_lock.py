"""Locks that lie narrow what may be installed, or are refused; they never add anything."""

import re
import shlex
import tomllib
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from packaging.requirements import Requirement

from holdfast.environment import lock
from holdfast.environment.plan import Plan
from holdfast.errors import EnvironmentMismatch

ONE, TWO = "1" * 64, "2" * 64
ASKED = ("numpy==1.24.3", "pandas")
SOUND = f"""\
lock-version = "1.0"
created-by = "uv"
requires-python = ">=3.11"

[[packages]]
name = "numpy"
version = "1.24.3"
wheels = [
    {{ url = "https://example.org/numpy-1.24.3-cp311-cp311-macosx_11_0_arm64.whl", size = 7, hashes = {{ sha256 = "{TWO}" }} }},
    {{ url = "https://example.org/numpy-1.24.3-cp311-cp311-win32.whl", hashes = {{ sha256 = "{ONE}" }} }},
]

[[packages]]
name = "pandas"
version = "2.0.3"
marker = "python_full_version < '3.12' and sys_platform == 'linux'"
wheels = [{{ url = "https://example.org/x.whl", hashes = {{ sha256 = "{ONE}" }} }}]
"""  # noqa: E501 - as uv writes it


def judged(text, asked=ASKED, python="3.11"):
    data = text if isinstance(text, bytes) else text.encode()
    return [str(pin) for pin in lock.judged(data, asked, python)]


def test_what_uv_writes_becomes_constraints():
    where = 'python_full_version < "3.12" and sys_platform == "linux"'
    assert judged(SOUND) == [
        f"numpy==1.24.3 --hash=sha256:{ONE} --hash=sha256:{TWO}",
        f"pandas==2.0.3 ; {where} --hash=sha256:{ONE}",
    ]


def test_every_marker_that_uv_writes_is_understood():
    text = SOUND.replace("python_full_version < '3.12'", "python_full_version == '3.11.*'")
    assert 'python_full_version == "3.11.*"' in judged(text)[1]


def test_what_is_kept_names_no_place_of_this_machine_and_no_password():
    text = (
        SOUND.replace("https://example.org/x.whl", "file:///opt/my%20wheels/x-1-py3-none-any.whl")
        .replace("https://example.org/numpy", "https://me:secret@index.example/a@b/numpy")
        .replace('version = "2.0.3"', 'version = "2.0.3"\nindex = "https://token@index.example/x"')
        + '[[packages]]\nname = "y"\nversion = "1"\nwheels = [{ path = "../../home/me/y-1.whl", '
        f'hashes = {{ sha256 = "{TWO}" }} }}]\n'
    )
    kept = lock.published(text.encode()).decode()
    assert 'path = "x-1-py3-none-any.whl"' in kept
    assert 'path = "y-1.whl"' in kept
    assert 'index = "https://index.example/x"' in kept
    assert "https://index.example/a@b/numpy-1.24.3" in kept
    assert not re.search(r"secret|token|me:|/opt|/home|file:|\.\./", kept)
    assert judged(kept) == judged(text)
    assert lock.published(SOUND.encode()) == SOUND.encode()


def test_a_plan_is_narrowed_and_keyed_by_its_lock():
    wanted = Plan(ASKED, "3.11", "2023-07-01T00:00:00Z")
    narrowed = lock.locked(wanted, SOUND.encode())
    assert narrowed.requirements == ("numpy==1.24.3", "pandas==2.0.3")
    assert narrowed.as_of is None
    other = lock.locked(wanted, SOUND.replace(TWO, "3" * 64).encode())
    assert len({wanted.key, narrowed.key, other.key}) == 3
    assert replace(narrowed).key == lock.locked(wanted, b"# same\n" + SOUND.encode()).key


def test_what_the_record_has_no_version_of_gets_that_of_this_kind_of_machine():
    wanted = Plan(ASKED, "3.11", None)
    other = SOUND + SOUND[SOUND.rindex("[[packages]]") :].replace("2.0.3", "2.1.0").replace(
        "== 'linux'", "== 'win32'"
    )
    assert lock.locked(wanted, other.encode()).requirements[1] == "pandas==2.0.3"
    elsewhere = SOUND.replace("== 'linux'", "== 'win32'")
    with pytest.raises(EnvironmentMismatch, match="lacks pandas for this kind of machine"):
        lock.locked(wanted, elsewhere.encode())


def test_addresses_paths_and_archives_of_source_are_not_looked_at():
    lies = SOUND.replace("https://example.org/", "file:///etc/passwd#").replace(
        "wheels = [{", 'sdist = { url = "http://evil.example", path = "../x" }\nwheels = [{'
    )
    assert judged(lies) == judged(SOUND)


LIES = {
    "another version": (("1.24.3", "1.24.4"), "it has numpy 1.24.4, and the record says"),
    "another name": (('"numpy"', '"numpie"'), "it lacks numpy"),
    "another Python": ((">=3.11", ">=3.12"), "it is for Python '>=3.12'"),
    "an old Python": ((">=3.11", "<3.9"), "it is for Python '<3.9'"),
    "no Python": ((">=3.11", "three"), "it is for Python 'three'"),
    "a Python that is a number": (('">=3.11"', "3.11"), "it is for Python 3.11"),
    "a later form": (('lock-version = "1.0"', 'lock-version = "2.0"'), "of the version '2.0'"),
    "no form": (('lock-version = "1.0"', ""), "of the version None"),
    "no packages": (("packages", "packets"), "it lists no packages"),
    "packages that are none": (("[[packages]]", "[packages.x]", 1), "is not TOML|no packages"),
    "a wheel without a digest": (("sha256 =", "md5 ="), "has no SHA-256"),
    "a digest that is none": ((ONE, "1" * 63), "has no SHA-256"),
    "a digest with more": ((ONE, "1" * 64 + "\\n--index-url http://evil"), "has no SHA-256"),
    "only source": (("wheels =", "sdists ="), "it has no wheels of numpy"),
    "no wheels": (('wheels = [{ url = "https:', 'wheels = []\nx = [{ url = "https:'), "no wheels"),
    "a name that is an option": (('"pandas"', '"-r /etc/passwd"'), "'-r /etc/passwd' is no p"),
    "a name of two lines": (('"pandas"', '"pandas\\n-r x"'), "is no package's name"),
    "a version with an address": (("2.0.3", "2.0.3 @ http://evil"), "is not described"),
    "a version that is a number": (('"2.0.3"', "2.0"), "is not described"),
    "a marker of two lines": (("'3.12'", "'3\\n--index-url http://evil\\n'"), "is not described"),
    "a marker with a variable": (("'3.12'", "'${HOME}'"), "is not described"),
    "a marker that is none": (("and sys_platform", "nand sys_platform"), "is not described"),
    "a deep marker": (("python_full_version <", "(" * 400 + "python_full_version <"), "not desc"),
    "texts of lines": (('"uv"', '"""uv\n"""'), "of several lines"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lock_that_lies_is_refused_and_the_way_on_is_named(lie):
    (old, new, *count), told = LIES[lie]
    assert old in SOUND
    with pytest.raises(EnvironmentMismatch, match=told) as raised:
        judged(SOUND.replace(old, new, *count))
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 300
    assert raised.value.hint.startswith("hold env lock REF")


BYTES = {
    "too long": (SOUND + "#" * lock.MOST).encode(),
    "no text": b"\xff\xfe" + SOUND.encode("utf-16"),
    "nothing": b"",
    "no TOML": b"{}",
    "deep arrays": b"x = " + b"[" * 100_000,
    "deep tables": b"x = " + b"{a=" * 100_000,
    "long keys": (SOUND + "a." * 300_000 + "a = 1\n").encode(),
    "long quoted keys": (SOUND + '"a".' * 100_000 + "a = 1\n").encode(),
    "long keys after texts": (SOUND + 'x={b="\\"", ' + "c." * 200_000 + 'c=1, d=""}').encode(),
    "a long table": (SOUND + "[" + "a." * 300_000 + "a]\n").encode(),
    "a text without an end": (SOUND + 'x = "' + '\\"' * 400_000).encode(),
    "many texts without an end": (SOUND + "x = '\n\"" * 80_000).encode(),
    "a text that ends in a stroke": (SOUND + 'x = "\\\ny.' + "z." * 300_000).encode(),
    "a long number": (SOUND + "x = " + "9" * 100_000).encode(),
    "many packages": b'lock-version = "1.0"\n' + b"[[packages]]\n" * 50_000,
    "many wheels": (SOUND.rpartition("[{")[0] + "[" + "{}," * 90_000 + "]").encode(),
}  # fmt: skip


@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_are_no_lock(case):
    with pytest.raises(EnvironmentMismatch, match="Its lock cannot be used") as raised:
        judged(BYTES[case])
    assert len(raised.value.message) < 300


LINE = re.compile(
    r"[a-z0-9][a-z0-9-]*==[a-z0-9.!+]+( ; [\w .,*()<>=!~'\"-]+)?( --hash=sha256:[0-9a-f]{64})+"
)
WORDS = st.sampled_from(
    ['"', "'", "\n", "\\", "\\n", "[[packages]]", "]", "}", "=", "-r x", "${A}", "; os_name", "#",
     "sha256", "\x00", "é", "@ http://x", "--hash=sha256:" + ONE, '"""', ".", "==", "\u2028"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(place=st.integers(0, len(SOUND)), cut=st.integers(0, 40), words=st.lists(WORDS, max_size=4))
def test_whatever_it_says_a_constraint_is_one_line_and_a_requirement(place, cut, words):
    text = SOUND[:place] + "".join(words) + SOUND[place + cut :]
    try:
        found = judged(text)
    except EnvironmentMismatch:
        return
    tomllib.loads(text)
    for line in found:
        assert LINE.fullmatch(line), line
        assert line.isprintable()
        said = Requirement(line.partition(" --hash")[0])
        assert len(said.specifier) == 1
        assert said.url is None
        assert shlex.split(line)[0] == f"{said.name}{said.specifier}"
