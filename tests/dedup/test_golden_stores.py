"""Stores that released versions wrote stay readable, whole and usable."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from models import read_folder
from vaults import open_local

from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.catalogue.refs import is_public, list_tags

STORES = sorted((Path(__file__).parent / "golden_stores").iterdir())


@pytest.mark.parametrize("store", STORES, ids=lambda path: path.name)
def test_a_store_of_an_older_version_is_read_and_used(store: Path, tmp_path: Path):
    shutil.copytree(store / "objects", tmp_path / "vault/objects")
    expected = json.loads((store / "files.json").read_text())
    vault = open_local(tmp_path / "vault")
    assert Scrubber(vault).run().problems == []
    assert vault.check().problems == ()
    assert [repo.name for repo in vault.list_repos()] == ["org/base", "org/tuned"]
    assert list(list_tags(vault.catalogue, "org/tuned")) == ["v1"]
    assert is_public(vault.catalogue, "org/base")
    for revision, files in expected.items():
        repo, _, branch = revision.partition("@")
        out = tmp_path / "out" / revision
        pull(vault, repo, out, branch)
        assert {p: sha256(d).hexdigest() for p, d in read_folder(out).items()} == files
    # What it holds need not be sent again, and what is done to it now leaves it whole.
    assert push(vault, tmp_path / "out" / "org/tuned@main", "org/copy").sent == 0
    Collector(vault, grace_seconds=0, dead_share=0.01).run()
    assert Scrubber(vault).run().problems == []
    vault.close()
