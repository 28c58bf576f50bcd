"""What a model card names as its base, however it is written."""

from pathlib import Path

import pytest

from weightvault.dedup.similarity.base_selection import card_bases

CARDS = {
    "one": ("---\nbase_model: org/base\n---\n", ["org/base"]),
    "several": ("---\nbase_model: [org/a, org/b]\nx: 1\n---\ntext", ["org/a", "org/b"]),
    "unclosed": ("---\nbase_model: org/base\n", ["org/base"]),
    "none": ("---\nlicense: mit\n---\n", []),
    "no front matter": ("# base_model: org/base\n", []),
    "not a repo": ("---\nbase_model: ../../etc\n---\n", []),
    "not text": ("---\nbase_model: 7\n---\n", []),
    "nested": ("---\nbase_model: {a: org/b}\n---\n", []),
    "list of odd things": ("---\nbase_model: [1, null, org/a, {}]\n---\n", ["org/a"]),
    "not YAML": ("---\nbase_model: [\n---\n", []),
    "a list": ("---\n- base_model\n---\n", []),
    "calls code": ("---\nbase_model: !!python/object/apply:os.getpid []\n---\n", []),
    "deep": ("---\nbase_model: " + "[" * 5000 + "\n---\n", []),
    "empty": ("", []),
}


@pytest.mark.parametrize("case", CARDS)
def test_card(case: str, tmp_path: Path):
    text, expected = CARDS[case]
    card = tmp_path / "README.md"
    card.write_text(text)
    assert card_bases({"README.md": card}) == expected


def test_no_card():
    assert card_bases({}) == []


def test_card_that_is_not_text(tmp_path: Path):
    card = tmp_path / "README.md"
    card.write_bytes(b"---\nbase_model: \xff\xfe\n---\n")
    assert card_bases({"README.md": card}) == []
