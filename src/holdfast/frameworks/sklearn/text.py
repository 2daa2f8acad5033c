"""What turns texts, dictionaries and labels into columns: their numbers become indices.

Sources: ``text.py``, ``_dict_vectorizer.py`` and ``_hashing_fast.pyx`` in
``sklearn/feature_extraction``, and ``sklearn/preprocessing/_label.py``. scipy believes the column
indices that they give it, and a hash is taken modulo ``n_features``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.shapes import Fields, whole

__all__ = ["JUDGES"]


def _judge_vocabulary(fields: Fields) -> None:
    _judge_words(fields.get("vocabulary_"))


def _judge_words(words: Any) -> None:
    if words is None:
        return
    if type(words) is not dict:
        raise Corrupt("a vocabulary is no dictionary")
    if not words:
        return
    places = np.array(list(words.values()))
    if places.dtype.kind not in "iu" or places.ndim != 1:
        raise Corrupt("a vocabulary does not number its words")
    if places.min() < 0 or places.max() >= len(words):
        raise Corrupt("a word of a vocabulary has a number beyond its words")
    if np.bincount(places).max() > 1:
        raise Corrupt("two words of a vocabulary have the same number")


def _judge_dict_vectorizer(fields: Fields) -> None:
    _judge_vocabulary(fields)
    words, names = fields.get("vocabulary_"), fields.get("feature_names_")
    if words is not None and (type(names) is not list or len(names) != len(words)):
        raise Corrupt("a DictVectorizer has another number of names than of words")


def _judge_labels(fields: Fields) -> None:
    """Judge a MultiLabelBinarizer: it numbers its classes as they come, or did so before."""
    _judge_words(fields.get("_cached_dict"))
    classes, cached = fields.get("classes_"), fields.get("_cached_dict")
    if classes is None:
        return
    if type(classes) is not np.ndarray or classes.ndim != 1:
        raise Corrupt("the classes of a MultiLabelBinarizer are none")
    if len(set(classes.tolist())) != len(classes):
        raise Corrupt("a MultiLabelBinarizer has the same class twice")
    if cached is not None and len(cached) != len(classes):
        raise Corrupt("a MultiLabelBinarizer numbers another number of classes than it has")


def _judge_hashing(fields: Fields) -> None:
    if "n_features" in fields:
        whole(fields["n_features"], "the number of features of a hash", 1, 2**31 - 1)


JUDGES: Final[dict[str, Any]] = {
    "sklearn.CountVectorizer": _judge_vocabulary,
    "sklearn.TfidfVectorizer": _judge_vocabulary,
    "sklearn.DictVectorizer": _judge_dict_vectorizer,
    "sklearn.FeatureHasher": _judge_hashing,
    "sklearn.HashingVectorizer": _judge_hashing,
    "sklearn.MultiLabelBinarizer": _judge_labels,
}
