"""Whatever text comes in, reading it is bounded, and a text that is refused gets a 4xx."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hostile_requests import Target, attacked, commit_lines, make_files, make_manifest, push_card

from weightvault.dedup.errors import InvalidManifest
from weightvault.dedup.model.files.manifest import check_paths, parse_manifest

MANY = 200_000


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    with attacked(tmp_path / "served") as found:
        yield found


def alias_bomb() -> str:
    """Thirteen lines that stand for a million texts."""
    lines = ["a0: &a0 [lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 13)]
    return "\n".join(lines)


# Model cards


CARDS = {
    "aliases": alias_bomb(),
    "anchor": "base_model: &x org/base",
    "merge of an alias": "a: &a {b: 1}\nc:\n  <<: *a",
    "deep": "a: " + "[" * 500 + "]" * 500,
    "many": "a: [" + "1," * 100_000 + "]",
    "tag": "a: !!python/object/apply:os.system [true]",
    "set": "a: !!set {x, y}",
    "two documents": "a: 1\n---\nb: 2",
    "list": "- a",
    "surrogate": 'a: "\\ud800"',
    "key that is a list": "? [a, b]\n: c",
}


@pytest.mark.parametrize("case", sorted(CARDS.keys() - {"two documents"}))
def test_cards_beyond_bounds_say_nothing(case: str, target: Target, tmp_path: Path):
    push_card(target, tmp_path / "model", f"---\n{CARDS[case]}\n---\n# Title\n")
    answer = target.http.get("/api/models/org/m")
    assert (answer.status_code, answer.json()["cardData"]) == (200, {})
    assert len(answer.content) < 1 << 16
    page = target.http.get("/org/m")
    assert page.status_code == 200
    assert "Title" in page.text


@pytest.mark.parametrize("case", sorted(CARDS.keys() - {"two documents"}))
def test_validation_refuses_what_no_reader_takes(case: str, target: Target):
    asked = {"content": f"---\n{CARDS[case]}\n---\n"}
    answer = target.http.post("/api/validate-yaml", json=asked)
    assert answer.status_code == 400
    assert answer.json()["errors"]
    assert len(answer.content) < 1 << 12


VALUES = {
    "hexadecimal": ("0x" + "f" * 5000, "0x" + "f" * 5000),
    "decimal": ("9" * 5000, "9" * 5000),
    "short hexadecimal": ("0x1F", 31),
    "base 60": ("1" + ":59" * 3000, "1" + ":59" * 3000),
    "date": ("2020-01-01", "2020-01-01"),
    "time": ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
    "no date": ("2020-99-99", "2020-99-99"),
    "not a number": (".nan", ".nan"),
    "infinite": ("-.inf", "-.inf"),
    "too large": ("1.0e+999", "1.0e+999"),
    "null": ("~", None),
    "keys": ("{1: a, 2020-01-01: b, null: c, true: d}",
             {"1": "a", "2020-01-01": "b", "null": "c", "true": "d"}),
    "merge": ("{<<: {a: 1}}", {"<<": {"a": 1}}),
    "twice": ("{a: 1, a: 2}", {"a": 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_odd_values_become_plain_json(case: str, target: Target, tmp_path: Path):
    text, value = VALUES[case]
    push_card(target, tmp_path / "model", f"---\nx: {text}\n---\n")
    answer = target.http.get("/api/models/org/m")
    assert answer.status_code == 200
    assert answer.json()["cardData"] == {"x": value}
    assert target.http.get("/org/m").status_code == 200


MARKDOWN = {
    "schemes": "://" * 30_000,
    "autolinks": "<http://" * 12_000,
    "references": "[a]: " + "b" * 2000 + "\n\n" + "[a]" * 20_000,
    "quotes": "> " * 40_000,
    "brackets": "![" * 40_000,
    "tables": "a|b\n-|-\n" + "x\n" * 40_000,
}


@pytest.mark.parametrize("case", MARKDOWN)
def test_worst_markdown_is_bounded(case: str, target: Target, tmp_path: Path):
    push_card(target, tmp_path / "model", MARKDOWN[case])
    before = time.process_time()
    page = target.http.get("/org/m")
    assert page.status_code == 200
    assert len(page.content) < 4 << 20
    assert time.process_time() - before < 20


def test_what_is_not_rendered_is_shown_as_text(target: Target, tmp_path: Path):
    push_card(target, tmp_path / "model", "# Title\n" + "- *x*\n" * 12_000 + "<b>the end</b>\n")
    page = target.http.get("/org/m").text
    assert "Title</h2>" in page
    assert "&lt;b&gt;the end&lt;/b&gt;" in page


# JSON


NO_JSON = {
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "digits": b'{"a":' + b"9" * 5000 + b"}",
    "large": b'{"a":18446744073709551616}',
    "NaN": b'{"a":NaN}',
    "infinite": b'{"a":1e999}',
    "surrogate": b'{"a":"\\ud800"}',
    "raw surrogate": b'{"a":"\xed\xa0\x80"}',
    "twice": b'{"a":1,"a":2}',
    "many": b'{"a":[' + b"0," * MANY + b"0]}",
    "open text": b'{"a":"' + b'\\"' * MANY,
    "no text": b"\xff\xfe{}",
    "list": b"[]",
    "empty": b"",
}
TAKERS = (
    ("POST", "/api/repos/create"),
    ("DELETE", "/api/repos/delete"),
    ("POST", "/api/repos/move"),
    ("PUT", "/api/models/org/m/settings"),
    ("POST", "/api/models/org/m/branch/x"),
    ("POST", "/api/models/org/m/tag/main"),
    ("POST", "/api/models/org/m/preupload/main"),
    ("POST", "/api/models/org/m/paths-info/main"),
    ("POST", "/api/models/org/m/commit/main"),
    ("POST", "/api/validate-yaml"),
    ("POST", "/org/m.git/info/lfs/objects/batch"),
    ("POST", "/org/m.git/info/lfs/verify"),
    ("POST", "/v1/missing"),
    ("POST", "/v1/bases"),
    ("POST", "/v1/repos/org/m/frames"),
)


@pytest.mark.parametrize("case", NO_JSON)
@pytest.mark.parametrize(("method", "path"), TAKERS)
def test_hostile_json_is_refused(method: str, path: str, case: str, shared: Target):
    headers = {"Content-Type": "application/json"}
    answer = shared.http.request(method, path, content=NO_JSON[case], headers=headers)
    nothing_asked = case == "empty" and ("/branch/" in path or "/commit/" in path)
    assert nothing_asked or 400 <= answer.status_code < 500
    assert len(answer.content) < 1 << 16


@pytest.mark.parametrize(
    "wrong", [1, "x", [], {}, None, True, [[]], [{}], [1], {"a": 1}, -1, 1e300]
)
def test_values_of_other_types_are_refused(wrong: object, shared: Target):
    keys = "name type objects operation transfers files paths oid startingPoint tag message private"
    for method, path in TAKERS:
        for key in f"{keys} digests sketches".split():
            body = {"name": "org/x", "objects": [], "files": [], "paths": [], key: wrong}
            answer = shared.http.request(method, path, content=json.dumps(body).encode())
            assert answer.status_code < 500, (method, path, key)


def test_errors_in_long_lists_are_not_all_told(shared: Target):
    tracemalloc.start()
    answer = shared.http.post("/v1/missing", content=b'{"digests":[' + b"1," * 9_999 + b"1]}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 422
    assert peak < 16 << 20


def test_lines_of_a_commit_are_bounded(shared: Target):
    path = "/api/models/org/m/commit/main"
    long = {"key": "file", "value": {"path": "a.txt", "content": "x" * (9 << 20)}}
    assert shared.http.post(path, content=commit_lines(long)).status_code == 413
    many = {"key": "file", "value": {"path": "a.txt", "content": "", "x": list(range(1000))}}
    assert shared.http.post(path, content=commit_lines(many)).status_code == 400
    for wrong in (1, [], "x", None):
        lines = (
            wrong,
            {"key": "file", "value": wrong},
            {"key": wrong, "value": {}},
            {"key": "file", "value": {"path": "a", "content": wrong and [wrong]}},
            {"key": "lfsFile", "value": {"path": "a", "oid": wrong, "size": wrong}},
        )
        for line in lines:
            assert shared.http.post(path, content=commit_lines(line)).status_code == 400


def test_texts_of_commits_hold_no_nul(target: Target, tmp_path: Path):
    push_card(target, tmp_path / "model", "# A model\n")
    header = {"key": "header", "value": {"summary": "a\0b", "description": "c\0d"}}
    file = {"key": "file", "value": {"path": "a.txt", "content": "a\0b"}}
    body = b"\n".join(json.dumps(line).encode() for line in (header, file))
    assert target.http.post("/api/models/org/m/commit/main", content=body).status_code == 200
    (line, *_) = target.http.get("/api/models/org/m/commits/main").json()
    assert (line["title"], line["message"]) == ("ab", "cd")
    assert target.http.get("/org/m/resolve/main/a.txt").content == b"a\0b"


def test_a_path_is_listed_once_however_often_it_is_asked_for(target: Target, tmp_path: Path):
    push_card(target, tmp_path / "model", "# A model\n")
    form = "&".join(["paths=README.md"] * 5000)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = target.http.post("/api/models/org/m/paths-info/main", content=form, headers=headers)
    assert [line["path"] for line in answer.json()] == ["README.md"]


# Manifests


def test_paths_are_checked_in_linear_time():
    deep = "/".join("d" * 500)
    paths = sorted(f"{deep}/{i:05}" for i in range(2000))
    before = time.process_time()
    check_paths(paths)
    assert time.process_time() - before < 5
    for pair in (["a", "a/b"], ["a", "a-b", "a/b"], ["a/b", "a/b/c/d"]):
        with pytest.raises(InvalidManifest):
            check_paths(pair)
    check_paths(["a-b/c", "a/b", "ab"])


BOMBS = {
    "segments": b'{"chunk_bytes":33554432,"files":[{"path":"a","size":0,"blake3":"' + b"00" * 32
    + b'","segments":[' + b",".join([b'{"literal":""}'] * 1_000_000) + b"]}]}",
    "bundle": b'{"chunk_bytes":33554432,"files":[{"path":"a","size":0,"blake3":"' + b"00" * 32
    + b'","segments":[{"size":0,"chunks":[0],"dtype":"U8","bundle":['
    + b",".join([b'["",[0]]'] * 1_000_000) + b"]}]}]}",
    "nothing": b'{"chunk_bytes":33554432,"files":[],"x":[' + b",".join([b"{}"] * 1_000_000) + b"]}",
    "files": b'{"chunk_bytes":33554432,"files":['
    + b",".join([b'{"path":"a","size":0,"blake3":"%064d","segments":[]}' % 0] * 300_000)
    + b"]}",
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_a_small_manifest_expands_to_little(case: str, shared: Target):
    body = make_manifest(BOMBS[case], [bytes(32)])
    assert len(body) < 1 << 20
    tracemalloc.start()
    with pytest.raises(InvalidManifest):
        parse_manifest(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The text, and it without its strings.
    assert peak < 96 << 20
    assert shared.http.post("/v1/repos/org/x/commits", content=body).status_code == 400


def test_shapes_of_many_dimensions_cost_no_product():
    shape = b",".join([b"9223372036854775807"] * 100_000)
    body = make_manifest(
        b'{"chunk_bytes":33554432,"files":[{"path":"a","size":1,"blake3":"' + b"00" * 32
        + b'","segments":[{"tensor":"t","dtype":"F32","size":1,"chunks":[0],"shape":['
        + shape + b"]}]}]}", [bytes(32)])  # fmt: skip
    before = time.process_time()
    with pytest.raises(InvalidManifest) as raised:
        parse_manifest(body)
    assert time.process_time() - before < 10
    assert len(str(raised.value)) < 1000


def test_texts_that_no_answer_can_hold_are_refused(shared: Target):
    body = make_files(["\ud800"])
    assert shared.http.post("/v1/repos/org/x/commits", content=body).status_code == 400


def test_changes_of_many_files_are_linear(target: Target, tmp_path: Path):
    push_card(target, tmp_path / "model", "# A model\n")
    path = "/api/models/org/m/commit/main"
    names = [f"d{i % 50}/f{i}.txt" for i in range(4000)]
    added = [{"key": "file", "value": {"path": n, "content": "x"}} for n in names]
    assert target.http.post(path, content=commit_lines(*added)).status_code == 200
    gone = [{"key": "deletedFile", "value": {"path": n}} for n in names[:-1]]
    gone.append({"key": "deletedFolder", "value": {"path": names[-1].split("/")[0]}})
    assert target.http.post(path, content=commit_lines(*gone)).status_code == 200
    assert [e["path"] for e in target.http.get("/api/models/org/m/tree/main").json()] == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip


def test_a_commit_adds_a_bounded_number_of_files(shared: Target):
    path = "/api/models/org/m/commit/main"
    lines = [{"key": "file", "value": {"path": f"{i}", "content": ""}} for i in range(4001)]
    assert shared.http.post(path, content=commit_lines(*lines)).status_code == 413


def test_long_folders_are_shown_in_pages(shared: Target):
    names = [f"{i:04}-{'n' * 200}" for i in range(2500)]
    digest = blake3(b"").hexdigest()
    body = make_files(sorted(names), digest)
    assert shared.http.post("/v1/repos/org/long/commits", content=body).status_code == 200
    pages = [shared.http.get("/org/long/tree/main", params={"page": n}) for n in (1, 2, 3)]
    assert all(page.status_code == 200 and len(page.content) < 2 << 20 for page in pages)
    shown = [sum(page.text.count(f">{name}<") for name in names) for page in pages]
    assert shown == [1000, 1000, 500]
    assert shared.http.get("/org/long/tree/main?page=" + "9" * 5000).status_code < 500


def test_folders_of_folders_are_bounded(shared: Target):
    for path in ("/".join("d" * 33), "/".join("d" * 500)):
        body = make_files([path], blake3(b"").hexdigest())
        assert shared.http.post("/v1/repos/org/x/commits", content=body).status_code == 400
    body = make_files(["/".join("d" * 32)], blake3(b"").hexdigest())
    assert shared.http.post("/v1/repos/org/x/commits", content=body).status_code == 200
