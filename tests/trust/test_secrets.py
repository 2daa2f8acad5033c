"""Credentials are found by shape and by name, told by place, never shown."""

from __future__ import annotations

import pytest

from holdfast.errors import SecretFound
from holdfast.trust.secrets import find_in_bytes, find_secrets, refuse_secrets

TOKENS = {
    "aws": "AKIA" + "Q2W3E4R5T6Y7U8I9",
    "github": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "hugging face": "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "slack": "xoxb-" + "123456789012-abcdefghijklmnop",
    "key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "url": "postgres://ana:" + "s3cretpass@db/prod",
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_is_found_wherever_it_is_and_never_shown(name):
    value = {"a": [{"b": f"see {TOKENS[name]} there"}], "c": 3}
    (found,) = find_secrets(value, "params")
    assert found.place == "params.a[0].b"
    with pytest.raises(SecretFound) as caught:
        refuse_secrets([found], frozenset())
    assert TOKENS[name] not in str(caught.value)
    assert "--allow-secret 'params.a[0].b'" in str(caught.value)
    refuse_secrets([found], frozenset({"params.a[0].b"}))


@pytest.mark.parametrize("key", ["password", "api_key", "db.secret", "HF_TOKEN", "auth-token"])
def test_a_value_with_a_telling_name_is_found(key):
    (found,) = find_secrets({key: "correcthorse"}, "params")
    assert found.place == f"params.{key}"


@pytest.mark.parametrize(
    "value",
    [{"max_tokens": 512}, {"tokenizer": "bert-base-uncased"}, {"token": "a sentence of words"},
     {"note": "the password policy was changed"}, {"sha": "a" * 64}, {"secret": "x"}],
    ids=str,
)  # fmt: skip
def test_ordinary_words_are_not_secrets(value):
    assert list(find_secrets(value, "params")) == []


def test_lines_of_files_are_named():
    data = f"a = 1\npassword: hunter2hunter2\nb\n{TOKENS['github']}\n".encode()
    places = [found.place for found in find_in_bytes(data, "files['x.env']")]
    assert places == ["files['x.env'] line 2", "files['x.env'] line 4"]
