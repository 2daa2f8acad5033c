"""Chat templates that reach for Python, and folders of models that bring code of their own."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import safetensors.numpy
from numpy import ones

import holdfast
from holdfast.trust.report import Severity
from holdfast.trust.templates import suspicions

ROLES = """{{ bos_token }}{% for m in messages %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate') }}{% endif %}
{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""
HARMLESS = [
    ROLES,
    "{%- set ns = namespace(found=false) %}{%- set ns.found = true %}{{ ns.found }}",
    "{{ messages | selectattr('role', 'equalto', 'system') | list | tojson(indent=2) }}",
    "{%- macro render(tool) %}{{ tool.function.name }}{%- endmacro %}{{ render(tools[0]) }}",
    "{{ strftime_now('%d %b %Y') }} {{ content.split('</think>')[-1].strip() }}",
    "{{ '<__image__>' ~ eos_token }} {{ message.content | trim }} {{ item.system_prompt }}",
    "plain text about __class__ and os.system('x'), outside of any code",
    "{{ messages | map(attribute='content') | join('\\n') }}",
    "",
]
EVIL = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ x['__class__'] }}",
    '{{ x["__globals__"]["os"] }}',
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ x|attr('x' ~ 'y') }}",
    "{{ x | attr ( name ) }}",
    "{{ ('_'*2 ~ 'class' ~ '_'*2) }}",
    "{{ x['__cl' ~ 'ass__'] }}",
    "{{ x['_' + '_class_' + '_'] }}",
    "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ x['\\u005f\\u005fclass'] }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__ }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ messages | map(attribute='__class__') }}",
    "{% include '/etc/passwd' %}",
    "{%- import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{{ os.system('id') }}",
    "{{ open('/etc/passwd').read() }}",
    "{{ eval('1') }}",
    "{{ generator.gi_frame.f_globals }}",
    "{% for x in ().__class__.__bases__[0].__subclasses__() %}",
    "{{ x.__class__ ",
]


@pytest.mark.parametrize("template", HARMLESS)
def test_templates_that_format_messages_are_quiet(template):
    assert list(suspicions(template)) == []


@pytest.mark.parametrize("template", EVIL)
def test_templates_that_reach_further_are_told_with_their_place(template):
    for text in (template, "hello {{ name }} " * 50 + template):
        found = list(suspicions(text))
        assert found
        assert all(0 <= place < len(text) for _, place in found)


def test_a_text_that_is_no_template_ends():
    assert list(suspicions("{{" * (3 << 20)))[-1][0].startswith("goes on after")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "transformers_version": "4.50.0"}), "utf-8"
    )
    safetensors.numpy.save_file({"w": ones(3)}, folder / "model.safetensors")
    return folder


def unsafe(report):
    return [f.what for _, f in report.all_findings() if f.severity is Severity.UNSAFE]


def test_a_model_without_code_is_taken_over_as_data(folder):
    template = {"chat_template": HARMLESS[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(template), "utf-8")
    report = holdfast.scan(folder)
    assert (report.kind, report.takes, report.writer) == (
        "huggingface", "data", "transformers 4.50.0",
    )  # fmt: skip
    assert any("was not rendered" in finding.what for _, finding in report.all_findings())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", EVIL[0]),
        ("additional_chat_templates/tool.jinja", EVIL[1]),
        ("tokenizer_config.json", json.dumps({"chat_template": EVIL[2]})),
        ("tokenizer_config.json",
         json.dumps({"chat_template": [{"name": "default", "template": HARMLESS[0]},
                                       {"name": "tool", "template": EVIL[3]}]})),
        ("chat_template.json", json.dumps({"chat_template": EVIL[4]})),
        ("processor_config.json", json.dumps({"chat_template": EVIL[5]})),
        ("tokenizer_config.json", json.dumps({"auto_map": {"AutoTokenizer": ["x.Y", None]}})),
        ("generation_config.json", json.dumps({"auto_map": "x"})),
        ("preprocessor_config.json", json.dumps({"trust_remote_code": True})),
        ("modeling_own.py", "import os"),
        ("modules.json", json.dumps([{"type": "os.system", "path": ""}])),
        ("modules.json", json.dumps([{"type": "sentence_transformers_evil.X"}])),
        ("pytorch_model.bin", pickle.dumps(os.system)),
        ("1_Pooling/weights.bin", pickle.dumps(os.system)),
    ],
)  # fmt: skip
def test_code_that_a_model_brings_along_is_unsafe(folder, name, content):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = holdfast.scan(folder)
    assert report.kind == "huggingface"
    assert unsafe(report)
    assert report.takes is None


def test_an_adapter_tells_its_base_and_what_it_imports(folder):
    (folder / "config.json").unlink()
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8}
    (folder / "adapter_config.json").write_text(json.dumps(adapter), "utf-8")
    report = holdfast.scan(folder)
    assert (report.kind, report.takes) == ("peft", "data")
    assert report.facts["base_model_name_or_path"] == "org/base"
    adapter["auto_mapping"] = {"base_model_class": "X", "parent_library": "os"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter), "utf-8")
    assert unsafe(holdfast.scan(folder))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"model_type": 3}', "[" * 100_000])
def test_configurations_that_are_none_end_in_a_plain_folder(folder, text):
    (folder / "config.json").write_text(text, "utf-8")
    assert holdfast.scan(folder).kind == "folder"


def test_links_out_of_a_folder_are_not_followed_and_those_of_a_hub_cache_are(tmp_path, folder):
    (folder / "secret").symlink_to("/etc/passwd")
    (folder / "inner").symlink_to("config.json")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    report = holdfast.scan(folder)
    assert [m.path for m in report.members] == ["config.json", "inner", "model.safetensors"]
    said = " ; ".join(finding.what for finding in report.findings)
    for name in ("secret is a link", "up is a link", "pipe is a pipe"):
        assert name in said
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(blobs / f"digest-{name}")
        (snapshot / name).symlink_to(f"../../blobs/digest-{name}")
    (snapshot / "out").symlink_to("../../../model/secret")
    report = holdfast.scan(snapshot)
    assert (report.kind, report.tensor_count) == ("huggingface", 1)
    assert [m.path for m in report.members] == ["config.json", "model.safetensors"]


def test_a_saved_model_folder_is_told_by_its_graph(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/variables.index").write_bytes(bytes(20))
    node = b"\x0a\x01x\x12\x06PyFunc"
    graph = b"\x0a" + bytes([len(node)]) + node
    meta = b"\x0a\x08\x2a\x062.16.0" + b"\x12" + bytes([len(graph)]) + graph
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12" + bytes([len(meta)]) + meta)
    report = holdfast.scan(tmp_path)
    assert (report.kind, report.writer) == ("savedmodel", "TensorFlow 2.16.0")
    assert any("PyFunc" in what for what in unsafe(report))
