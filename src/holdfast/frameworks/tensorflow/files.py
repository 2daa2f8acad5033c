"""A SavedModel as files: read from a folder, judged, and handed to TensorFlow once that is done."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.errors import Corrupt, UnsafeContent, Unsupported, UsageError
from holdfast.plugins import import_extra
from holdfast.trust.source import Data, FileSource
from holdfast.trust.tf_checkpoint import read_checkpoint
from holdfast.trust.tf_folder import INDEX, MAIN, is_part, lacking
from holdfast.trust.tf_graph import Described, describe_saved_model

__all__ = ["SavedModel", "exported", "judge", "open_folder", "write_folder"]

# What TensorFlow needs of them to load.
_NEEDED: Final = re.compile(r"saved_model\.pb|variables/.*")
_MOST_FILES: Final = 10_000
_SELF_CONTAINED: Final = (
    "tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, numbers), -1)\n"
    "# in place of a table that reads a file; then tf.saved_model.save again"
)


class SavedModel:
    """A SavedModel: its files, and the object that TensorFlow makes of them.

    Call it as the signature ``serving_default``, or one of ``signatures`` by its name.

    Attributes:
        files: Bytes by place in the folder.
    """

    def __init__(self, files: Mapping[str, bytes | memoryview]) -> None:
        """Take the files of a folder; they are judged before TensorFlow sees them."""
        self.files = dict(files)
        self._described: Described | None = None
        self._root: Any = None

    @property
    def described(self) -> Described:
        """What the graph says, judged.

        Raises:
            UnsafeContent: An operator reaches out of the graph.
            Unsupported: Nothing is known of an operator, or it reads files beside it.
            Corrupt: It is damaged.
        """
        if self._described is None:
            self._described = judge(self.files)
        return self._described

    @property
    def is_loaded(self) -> bool:
        """Whether TensorFlow has loaded it."""
        return self._root is not None

    @property
    def root(self) -> Any:
        """What ``tf.saved_model.load`` makes of it; loaded at the first use.

        Raises:
            MissingExtra: TensorFlow is not installed.
            Corrupt: TensorFlow does not load it.
        """
        if self._root is None:
            _ = self.described
            self._root = _loaded(self.files)
        return self._root

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The functions it offers, by name."""
        found: Mapping[str, Any] = self.root.signatures
        return found

    def __call__(self, **inputs: Any) -> Any:
        """Answer as the signature ``serving_default``; inputs by name.

        Raises:
            UsageError: It has no such signature.
        """
        if "serving_default" not in self.signatures:
            raise UsageError(
                f"This SavedModel has no signature serving_default, only "
                f"{', '.join(self.signatures) or 'none'}.",
                hint="model.signatures['NAME'](**inputs)",
            )
        return self.signatures["serving_default"](**inputs)


def judge(files: Mapping[str, bytes | memoryview]) -> Described:
    """Judge the files of a SavedModel.

    Raises:
        UnsafeContent: An operator reads files, calls a network or runs code.
        Unsupported: It has parts of which nothing is known, or none of TensorFlow 2.
        Corrupt: It is damaged, or its variables lie beyond their files.
    """
    if MAIN not in files:
        raise Corrupt(f"a SavedModel has a file {MAIN}, and this one has not")
    found = describe_saved_model(files[MAIN])
    for fault in found.faults:
        raise Corrupt(f"in the SavedModel {fault}")
    reaching = [*found.reaching, *(operator for operator, _ in found.paths)]
    if reaching:
        raise UnsafeContent(
            f"UNSAFE  The SavedModel uses {_some(reaching)}, which reaches out of the graph: "
            "it reads or writes files, calls a network or runs code. Nothing was run.",
            hint=_SELF_CONTAINED,
        )
    if found.assets:
        raise Unsupported(
            f"The SavedModel reads the file {found.assets[0]!r:.100} beside it (an asset).",
            hint=_SELF_CONTAINED,
        )
    unknown = [*found.unknown, *found.fields]
    if unknown:
        raise Unsupported(
            f"The SavedModel holds {_some(unknown)}, of which Holdfast knows nothing.",
            hint='holdfast.save({"model": "as files"}, name, files=["saved_model.pb"])',
        )
    if not found.whole:
        raise Unsupported(
            "The SavedModel is one of TensorFlow 1, or does not hold one graph.",
            hint="tf.saved_model.save(tf.saved_model.load(folder), new)  # with TensorFlow 2",
        )
    needs = read_checkpoint(Data(bytes(files[INDEX]))).needs() if INDEX in files else None
    lack = lacking(needs, {name: memoryview(data).nbytes for name, data in files.items()})
    if lack is not None:
        raise Corrupt(lack)
    return found


def _some(names: Iterable[str]) -> str:
    every = [name[:100] or "an operator without a name" for name in dict.fromkeys(names)]
    more = f" and {len(every) - 5} more" if len(every) > 5 else ""
    return ", ".join(every[:5]) + more


def open_folder(path: Path) -> SavedModel:
    """Read the folder of a SavedModel; nothing of it is run.

    Raises:
        UnsafeContent: An operator reaches out of the graph, or a file is a link.
        Unsupported: It has parts of which nothing is known.
        Corrupt: It is damaged.
        UsageError: There is no such folder.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is no folder of a SavedModel.", hint=f"ls -ld {path}")
    files: dict[str, bytes | memoryview] = {}
    for file in _walk(path):
        name = file.relative_to(path).as_posix()
        if file.is_symlink():
            raise UnsafeContent(
                f"UNSAFE  {name} in the SavedModel is a link. It was not followed.",
                hint=f"cp -rL {path} copy  # if the links are your own, and save the copy",
                ref=str(path),
            )
        if not is_part(name):
            raise Unsupported(
                f"The SavedModel has a file {name!r:.100}, which no graph that is kept here reads.",
                hint=f"mv {path}/{name} elsewhere  # and save again",
                ref=str(path),
            )
        with FileSource(file) as source:
            files[name] = bytes(source.view())
    model = SavedModel(files)
    _ = model.described
    return model


def _walk(path: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(path):
        here = Path(place)
        yield from (here / name for name in folders if (here / name).is_symlink())
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                raise Unsupported(f"{path} has more than {_MOST_FILES:,} files.")
            yield here / name


def write_folder(model: SavedModel, path: Path) -> None:
    """Write the files into a new folder."""
    path.mkdir()
    _write(model.files, path)


def _write(files: Mapping[str, bytes | memoryview], folder: Path) -> None:
    for name, data in files.items():
        if not is_part(name):
            raise Corrupt(f"{name!r:.100} is no file of a SavedModel")
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)


def _loaded(files: Mapping[str, bytes | memoryview]) -> Any:
    """Have TensorFlow load judged files, from a folder that is gone afterwards."""
    tensorflow = import_extra("tensorflow", needed_for="loading a SavedModel")
    needed = {name: data for name, data in files.items() if _NEEDED.fullmatch(name)}
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        _write(needed, Path(folder))
        try:
            return tensorflow.saved_model.load(folder)
        except Exception as error:
            said = str(error).strip().partition("\n")[0]
            raise Corrupt(f"TensorFlow does not load the SavedModel: {said:.300}") from error


def exported(module: Any, signatures: Mapping[str, Any]) -> SavedModel:
    """Return a live module as TensorFlow writes it.

    Raises:
        Unsupported: TensorFlow cannot write it.
        UnsafeContent: Its functions reach out of the graph.
    """
    tensorflow = import_extra("tensorflow", needed_for="saving a tf.Module")
    with tempfile.TemporaryDirectory(prefix="holdfast-") as place:
        folder = Path(place) / "model"
        try:
            tensorflow.saved_model.save(module, str(folder), signatures=dict(signatures) or None)
        except Exception as error:
            said = str(error).strip().partition("\n")[0]
            raise Unsupported(
                f"TensorFlow cannot write {type(module).__name__} as a SavedModel: {said:.300}",
                hint="@tf.function(input_signature=[tf.TensorSpec((None, 4))])  # of its methods",
            ) from error
        return open_folder(folder)
