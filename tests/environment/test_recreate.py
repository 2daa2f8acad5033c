"""Environments are rebuilt from records that may lie, once, and never half."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.environment import kept, recreate
from holdfast.errors import EnvironmentMismatch

CREATED = "2023-06-01T10:00:00.123456Z"
UNTIL = "2023-07-01T00:00:00Z"
HERE = "{}.{}".format(*sys.version_info)

# Stands in for uv: writes down how it is called, and makes what uv would make.
FAKE = """
import os, pathlib, sys
words = sys.argv[1:]
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(repr(words) + "\\n")
if os.environ.get("FAKE_SLOW") and words[0] == "pip":
    import time
    time.sleep(float(os.environ["FAKE_SLOW"]))
if os.environ.get("FAKE_FAILS", "-") in words:
    print(os.environ["FAKE_SAYS"], file=sys.stderr)
    sys.exit(2)
if words[0] == "venv":
    place = pathlib.Path(words[-1])
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(sys.executable)
    (place / "pyvenv.cfg").write_text("home = x")
if "--target" in words:
    pathlib.Path(words[words.index("--target") + 1]).mkdir()
"""


def facts(python=HERE + ".7", **packages):
    return {"packages": {"holdfast-ml": "0.1.0", **packages}, "python": python}


def build(wanted, cache, **given):
    ready = recreate.ready(wanted, cache, announce=lambda _: nullcontext(), **given)
    ready.release()
    return ready


@pytest.fixture(name="fake_uv")
def make_fake_uv(tmp_path, monkeypatch):
    file = tmp_path / "fake_uv.py"
    file.write_text(FAKE, "utf-8")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "calls"))
    monkeypatch.setattr(recreate, "uv", lambda: [sys.executable, str(file)])
    return lambda: (tmp_path / "calls").read_text("utf-8").splitlines()


@pytest.fixture(name="failing")
def make_failing_uv(fake_uv, monkeypatch):
    """Return what has every installation fail with these words."""

    def fail(says):
        monkeypatch.setenv("FAKE_FAILS", "pip")
        monkeypatch.setenv("FAKE_SAYS", says)
        return fake_uv

    return fail


@pytest.fixture(name="cache")
def make_cache(tmp_path):
    return tmp_path / "cache"


PIN = "numpy==1.24.3 --hash=sha256:" + "0" * 64


def left_in(cache):
    return [place.name for place in (cache / "environments").iterdir() if place.is_dir()]


def test_a_plan_pins_what_is_recorded_and_leaves_holdfast_out():
    environment = facts(**{"scikit-learn": "1.2.2", "torch": "2.1.0+cpu", "numpy": "1.24.3"})
    wanted = recreate.plan(environment, CREATED, ["pandas", "numpy"])
    assert wanted.requirements == (
        "numpy==1.24.3",
        "scikit-learn==1.2.2",
        "torch==2.1.0+cpu",
        "pandas",
    )
    assert (wanted.python, wanted.as_of) == (HERE, UNTIL)


def test_the_key_says_what_is_shared():
    plans = [
        recreate.plan(facts(numpy="1.24.3"), CREATED),
        recreate.plan(facts(numpy="1.24.3"), CREATED, ["pandas"]),
        recreate.plan(facts(numpy="1.24.4"), CREATED),
        recreate.plan(facts(numpy="1.24.3"), "2024-01-01T00:00:00Z"),
        recreate.plan(facts(python="3.12.1" if HERE != "3.12" else "3.13.1", numpy="1"), CREATED),
    ]
    assert len({plan.key for plan in plans}) == len(plans)
    for later in (CREATED, "2023-06-30T23:59:59Z"):
        assert recreate.plan(facts(numpy="1.24.3"), later).key == plans[0].key
    ends = recreate.plan(facts(numpy="1.24.3"), "2023-12-31T23:59:59Z")
    assert ends.as_of == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "version",
    [
        "1.0 --index-url https://example.org",
        "1.0\n--index-url=https://example.org",
        "@ https://example.org/numpy.whl",
        "1.0; import os",
        "*",
        "",
        "1" * 200,
        None,
        7,
        ["1.0"],
    ],
)
def test_only_versions_are_versions(version):
    with pytest.raises(EnvironmentMismatch, match="which is none"):
        recreate.plan(facts(numpy=version), CREATED)


@pytest.mark.parametrize("name", ["evil", "--index-url=https://example.org", "../numpy", "a b", ""])
def test_a_file_cannot_choose_what_is_installed(name):
    with pytest.raises(EnvironmentMismatch, match="must not choose"):
        recreate.plan(facts(numpy="1.24.3", **{name: "1.0"}), CREATED)


@pytest.mark.parametrize(
    "python", ["2.7.18", "3.10.1", "", "three", "3", None, 3.11, "3.11x", "99"]
)
def test_a_python_that_cannot_be(python):
    with pytest.raises(EnvironmentMismatch, match="saved under Python"):
        recreate.plan(facts(python=python, numpy="1.24.3"), CREATED)


@pytest.mark.parametrize("packages", [None, {}, [], "numpy", {"holdfast-ml": "0.1.0"}])
def test_records_without_libraries(packages):
    with pytest.raises(EnvironmentMismatch, match="no libraries"):
        recreate.plan({"packages": packages, "python": HERE}, CREATED)


def test_a_moment_that_is_none_is_not_handed_on():
    for created in ("yesterday", "", "2023-13-01T", " " + CREATED, "2023-06-01", "9023-06-01T"):
        assert recreate.plan(facts(numpy="1.24.3"), created).as_of is None


def test_what_uv_is_asked(fake_uv, cache):
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    ready = build(wanted, cache)
    venv, install, beside = map(eval, fake_uv())
    assert venv[0] == "venv"
    assert sys.executable in venv
    assert install[-3:] == ["--exclude-newer", UNTIL, "numpy==1.24.3"]
    assert install[install.index("--only-binary") + 1] == ":all:"
    assert "--no-deps" in beside
    assert not any(word.startswith(("numpy", "holdfast")) for word in beside)
    assert ready.python == cache / "environments" / wanted.key / "bin" / "python"


def test_what_uv_is_asked_with_a_lock(fake_uv, cache):
    plain = recreate.plan(facts(numpy="1.24.3"), CREATED)
    wanted = replace(plain, as_of=None, pins=(PIN,))
    ready = build(wanted, cache)
    install = eval(fake_uv()[1])
    constraints = install[install.index("--constraints") + 1]
    assert constraints.endswith(f"{wanted.key}.building/constraints.txt")
    assert (ready.python.parents[1] / "constraints.txt").read_text("utf-8") == f"{PIN}\n"
    assert "--require-hashes" in install
    assert "--exclude-newer" not in install
    assert install[-1] == "numpy==1.24.3"
    assert not build(wanted, cache).built
    assert build(plain, cache).built
    locked = {each.key: each.locked for each in kept.kept(cache)}
    assert (locked[wanted.key], locked[plain.key]) == (True, False)


def test_what_uv_is_asked_with_a_wheelhouse(fake_uv, cache, tmp_path):
    wanted = recreate.plan(facts(numpy="1.24.3", torch="2.1.0+cpu"), CREATED)
    build(wanted, cache, wheelhouse=tmp_path)
    _, install, beside = map(eval, fake_uv())
    for words in (install, beside):
        place = words[words.index("--find-links") + 1]
        assert {"--no-index", "--offline"} <= {*words}
        assert place == str(tmp_path)
        assert not {"--exclude-newer", "--torch-backend"} & {*words}
    assert beside[-3:] == ["msgspec", "packaging", "platformdirs"]  # whichever it has


def test_a_wheelhouse_that_is_not_there(fake_uv, cache, tmp_path):
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    with pytest.raises(EnvironmentMismatch, match="There is no wheelhouse") as raised:
        build(wanted, cache, wheelhouse=tmp_path / "absent")
    assert raised.value.hint == f"hold env bundle REF --to {tmp_path / 'absent'}"
    assert not cache.exists()
    with pytest.raises(FileNotFoundError):
        fake_uv()


@pytest.mark.parametrize(
    ("packages", "variables", "words"),
    [
        ({"torch": "2.1.0+cpu"}, {}, ["--torch-backend", "cpu"]),
        ({"torch": "2.5.1+cu124", "numpy": "1.26.4"}, {}, ["--torch-backend", "cu124"]),
        ({"torch": "2.1.0+rocm5.6"}, {}, ["--torch-backend", "rocm5.6"]),
        ({"torch": "2.1.0"}, {}, []),
        ({"torch": "2.1.0+evil"}, {}, []),
        ({"numpy": "1.24.3+cpu"}, {}, []),
        ({"torch": "2.1.0+cpu"}, {"UV_INDEX": "https://mirror.example"}, []),
        ({"torch": "2.1.0+cpu"}, {"UV_FIND_LINKS": "/wheels"}, []),
        ({"torch": "2.1.0+cpu"}, {"UV_TORCH_BACKEND": "cpu"}, []),
    ],
)
def test_pytorchs_own_index_serves_its_versions_where_nobody_said_otherwise(
    packages, variables, words, monkeypatch
):
    for name in recreate._INDEXES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    wanted = recreate.plan(facts(**packages), CREATED)
    assert recreate.torch_index(wanted.requirements) == words


@pytest.mark.parametrize(
    ("says", "given", "told", "hint"),
    [
        ("Hash mismatch for `scipy==1.11.1`", "lock", "Its lock is not of", "hold env lock"),
        ("but no trusted hash was provided for", "lock", "Its lock is not", "hold env lock"),
        ("Hash mismatch for `numpy`", "lock wheelhouse", "Its lock is not of", "hold env lock"),
        ("no version of numpy==1.24.3", "wheelhouse", "The wheelhouse does not", "hold env bundle"),
        ("Network connectivity", "lock wheelhouse", "The wheelhouse does", "hold env bundle"),
        ("dns error", "lock", "HOLDFAST_WHEELHOUSE", "--dry-run"),
        ("numpy==1.24.3 was yanked and", "lock", "offer what its lock names", "hold env lock"),
    ],
)
def test_a_lock_or_wheelhouse_that_does_not_serve(  # noqa: PLR0917 - cases beside fixtures
    failing, cache, tmp_path, says, given, told, hint
):
    failing(says)
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    wanted = replace(wanted, as_of=None, pins=(PIN,)) if "lock" in given else wanted
    with pytest.raises(EnvironmentMismatch, match=told) as raised:
        build(wanted, cache, wheelhouse=tmp_path if "wheelhouse" in given else None)
    assert hint in raised.value.hint
    assert left_in(cache) == []


def test_a_second_use_builds_nothing(fake_uv, cache):
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    assert build(wanted, cache).built
    calls = len(fake_uv())
    assert not build(wanted, cache).built
    assert len(fake_uv()) == calls


def test_many_at_once_build_once(fake_uv, cache, monkeypatch):
    monkeypatch.setenv("FAKE_SLOW", "0.3")
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(build(wanted, cache))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.python for each in found}) == 1
    assert len(found) == 6
    assert len(fake_uv()) == 3


@pytest.mark.parametrize(
    ("failing", "told", "hint"),
    [
        (("venv", "No interpreter found"), "uv finds none here", "uv python install"),
        (("pip", "error sending request for url"), "cannot be reached", "--dry-run"),
        (("pip", "Network connectivity is disabled"), "cannot be reached", "--dry-run"),
        (("pip", "no version of numpy==1.24.3"), "does not offer", f"--exclude-newer {UNTIL}"),
        (("--target", "no version of msgspec"), "does not offer", "--dry-run"),
        (("pip", "\x1b[31mred\x1b[0m"), "does not offer", "--dry-run"),
    ],
)
def test_a_build_that_fails_leaves_nothing_and_says_why(
    fake_uv, cache, monkeypatch, failing, told, hint
):
    fails, says = failing
    monkeypatch.setenv("FAKE_FAILS", fails)
    monkeypatch.setenv("FAKE_SAYS", says)
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    with pytest.raises(EnvironmentMismatch, match=told) as raised:
        build(wanted, cache)
    assert hint in raised.value.hint
    assert raised.value.message.isprintable()
    whole = [wanted.key] if fails == "--target" else []
    assert left_in(cache) == whole
    monkeypatch.delenv("FAKE_FAILS")
    assert build(wanted, cache).built


def test_without_uv(cache, monkeypatch):
    monkeypatch.setattr(recreate, "uv", lambda: None)
    with pytest.raises(EnvironmentMismatch, match="not installed here") as raised:
        build(recreate.plan(facts(numpy="1.24.3"), CREATED), cache)
    assert raised.value.hint == "python -m pip install uv"
    assert left_in(cache) == []


@pytest.mark.skipif(recreate.uv() is None, reason="uv is not installed")
@pytest.mark.parametrize(
    ("python", "told"), [("3.99.1", "uv finds none"), (HERE, "index (cannot|does not)")]
)
def test_what_uv_itself_says(cache, python, told):
    wanted = recreate.plan(facts(python=python, numpy="0.0.1"), CREATED)
    with pytest.raises(EnvironmentMismatch, match=told):
        build(wanted, cache)
    assert left_in(cache) == []


def test_what_a_killed_build_left_is_swept(fake_uv, cache):
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    code = (
        "import sys\nfrom contextlib import nullcontext\nfrom pathlib import Path\n"
        "from holdfast.environment import kept, recreate\n"
        f"recreate.uv = lambda: {recreate.uv()!r}\n"
        f"wanted = recreate.plan({facts(numpy='1.24.3')!r}, {CREATED!r})\n"
        f"recreate.ready(wanted, Path({str(cache)!r}), announce=lambda _: nullcontext())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "FAKE_SLOW": "600"}, start_new_session=True
    )
    building = cache / "environments" / f"{wanted.key}.building"
    end = time.monotonic() + 120
    while not (building / "pyvenv.cfg").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert building.is_dir()
    assert kept.kept(cache) == []
    assert build(wanted, cache).built
    assert not building.exists()
    assert len(fake_uv()) >= 4


def test_an_environment_whose_python_is_gone_is_built_again(fake_uv, cache):
    wanted = recreate.plan(facts(numpy="1.24.3"), CREATED)
    python = build(wanted, cache).python
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert build(wanted, cache).built
    assert python.exists()
    assert len(fake_uv()) == 5


def test_prune_leaves_what_is_in_use(fake_uv, cache):
    one = recreate.plan(facts(numpy="1.24.3"), CREATED)
    two = recreate.plan(facts(numpy="1.24.4"), CREATED)
    held = recreate.ready(one, cache, announce=lambda _: nullcontext())
    build(two, cache)
    (cache / "environments" / "0.building").mkdir()
    gone, busy = kept.prune(cache, dry_run=True)
    assert [each.key for each in gone] == [two.key]
    assert {each.key for each in busy} == {one.key, held.beside.name}
    assert len(left_in(cache)) == 4
    kept.prune(cache)
    assert sorted(left_in(cache)) == sorted([one.key, held.beside.name])
    held.release()
    kept.prune(cache)
    assert left_in(cache) == []
    assert fake_uv()


def test_listing_survives_what_others_wrote(cache):
    place = cache / "environments" / "strange"
    place.mkdir(parents=True)
    for text in ("", "[]", '{"requirements": 7, "python": 1}', json.dumps({"python": "3.11"})):
        (place / "holdfast.json").write_text(text, "utf-8")
        assert kept.kept(cache)[0].requirements == ()
    assert kept.kept(Path(cache / "absent")) == []
