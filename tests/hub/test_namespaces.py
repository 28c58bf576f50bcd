"""Pushing natively with a token that is limited to a namespace: all of that, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import click.testing
import pytest
from live_server import serving
from models import make_weights, read_folder, to_bf16, tune, write_model
from vaults import open_local

from weightvault.api.cli.main import cli
from weightvault.api.client.http_vault import HttpVault
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.codecs.pipeline import encode_tensor
from weightvault.dedup.errors import AccessRefused, ChunksMissing, InvalidFrame
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import BackgroundEncoder, encode_some
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.model.journal_entries import Visibility
from weightvault.dedup.model.sketch import make_sketch
from weightvault.dedup.repository.pack_writing import add_frame
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import PackWriter

SHAPES = {"a": (256, 128)}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    with closing(open_local(tmp_path / "served")) as opened:
        yield opened


@pytest.fixture
def mine(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpVault]:
    """The vault over HTTP, with a token for "me"; nothing is coded behind the back of a push."""
    secret = create_token(vault, "mine", "write", "me").secret
    monkeypatch.setattr(BackgroundEncoder, "_run", lambda _: None)
    with ExitStack() as stack:
        url = stack.enter_context(serving(create_app(vault)))
        yield stack.enter_context(closing(HttpVault(url, token=secret)))


def stored(vault: LocalVault) -> int:
    return vault.report().unique


def model(folder: Path, seed: int, *, tuned: int | None = None) -> Path:
    weights = make_weights(seed, SHAPES)
    return write_model(folder, weights if tuned is None else tune(weights, tuned))


def test_a_push_inside_the_namespace(vault: LocalVault, tmp_path: Path):
    folder = model(tmp_path / "model", 1)
    secret = create_token(vault, "mine", "write", "me").secret
    reader = create_token(vault, "reader", "read", "me").secret
    run = click.testing.CliRunner().invoke
    with serving(create_app(vault)) as url:

        def weightvault(*words: str | Path, token: str = secret):
            return run(cli, ["--vault", url, *map(str, words)], env={"WEIGHTVAULT_TOKEN": token})

        pushed = weightvault("--json", "push", folder, "me/model")
        assert pushed.exit_code == 0, pushed.output
        again = weightvault("--json", "push", folder, "me/model")
        assert json.loads(again.stdout)["sent"] == 0
        pulled = weightvault("pull", "me/model", tmp_path / "copy")
        assert pulled.exit_code == 0, pulled.output
        refused = weightvault("push", folder, "you/model")
        assert refused.exit_code == 9
        assert "this token is for repos of me, not for you/model" in refused.stderr
        assert "me/model" in refused.stderr
        refused = weightvault("push", folder, "me/model", token=reader)
        assert refused.exit_code == 9
        assert "pushing to me/model" in refused.stderr
        assert weightvault("rm", "--yes", "me/model").exit_code == 0
    assert read_folder(tmp_path / "copy") == read_folder(folder)
    assert not vault.list_repos()


def test_nothing_is_sent_to_where_it_would_be_refused(
    vault: LocalVault, mine: HttpVault, tmp_path: Path
):
    with pytest.raises(AccessRefused, match="for repos of me"):
        push(mine, model(tmp_path / "model", 1), "you/model")
    assert not vault.catalogue.pack_names()


def test_a_tune_is_sent_as_a_delta_on_what_may_be_read(
    vault: LocalVault, mine: HttpVault, tmp_path: Path
):
    whole = push(mine, model(tmp_path / "base", 1), "me/base")
    part = push(mine, model(tmp_path / "tune", 1, tuned=2), "me/tune", base="me/base")
    assert part.sent < 0.8 * whole.sent


def test_what_others_have_is_sent_again_and_stored_once(
    vault: LocalVault, mine: HttpVault, tmp_path: Path
):
    folder = model(tmp_path / "model", 1)
    push(vault, folder, "you/model")
    before = stored(vault)
    assert push(mine, folder, "me/model").new_chunks
    assert stored(vault) == before
    assert push(mine, folder, "me/again").new_chunks == 0


@pytest.mark.parametrize("collected", [False, True])
def test_a_push_that_was_cut_off_goes_on_where_it_was(
    vault: LocalVault,
    mine: HttpVault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    collected: bool,
):
    folder = model(tmp_path / "model", 1)

    def refuse(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(mine, "commit", refuse)
        with pytest.raises(KeyboardInterrupt):
            push(mine, folder, "me/model")
    if collected:
        Collector(vault, grace_seconds=0).run()
    assert (push(mine, folder, "me/model").sent > 0) == collected
    assert not vault.check().problems


def test_knowing_digests_opens_nothing(vault: LocalVault, mine: HttpVault, tmp_path: Path):
    weights = make_weights(1, SHAPES)
    push(vault, write_model(tmp_path / "theirs", weights), "you/model")
    manifest = vault.resolve("you/model").manifest
    digests = list(manifest.digests())
    assert mine.find_missing(digests) == set(digests)
    with pytest.raises(ChunksMissing):
        mine.commit("me/model", "main", manifest)
    assert not vault.catalogue.has_repo("me/model")
    raw, tuned = (to_bf16(of["a"]).tobytes() for of in (weights, tune(weights, 2)))
    sketch = make_sketch(tuned, "BF16")
    assert vault.find_bases([sketch])[0]
    assert mine.find_bases([sketch]) == [()]
    (base,) = (d for d, size in manifest.digests().items() if size == len(raw))
    frame = encode_tensor(tuned, "BF16", base=raw, base_digest=base)
    pack = tmp_path / "pack"
    with PackWriter(pack) as writer:
        add_frame(writer, frame)
        name = writer.finish()
    with pytest.raises(InvalidFrame, match="not in this vault"):
        mine.add_pack(pack, name)
    assert vault.add_pack(pack, name) == 1


def test_names_that_differ_in_case_are_of_others(
    vault: LocalVault, mine: HttpVault, tmp_path: Path
):
    push(vault, model(tmp_path / "model", 1), "ME/model")
    digests = list(vault.resolve("ME/model").manifest.digests())
    assert mine.find_missing(digests) == set(digests)


def test_public_repos_are_there_to_build_on(vault: LocalVault, mine: HttpVault, tmp_path: Path):
    whole = push(vault, model(tmp_path / "base", 1), "you/open")
    vault.record(Visibility("you/open", True, whole.commit.created))
    assert push(mine, tmp_path / "base", "me/copy").sent == 0
    part = push(mine, model(tmp_path / "tune", 1, tuned=2), "me/tune", base="you/open")
    assert part.sent < 0.8 * whole.sent


def test_what_others_have_is_no_base_in_the_background_either(
    vault: LocalVault, mine: HttpVault, tmp_path: Path
):
    push(vault, model(tmp_path / "theirs", 1), "you/base")
    push(vault, model(tmp_path / "mine", 1, tuned=2), "me/tune")
    Collector(vault, grace_seconds=0).run()
    folder = model(tmp_path / "next", 1, tuned=3)
    push(mine, folder, "me/next", base="me/tune")
    while encode_some(vault):
        pass
    digests = vault.resolve("me/next").manifest.digests()
    theirs = vault.resolve("you/base").manifest.digests()
    own = vault.resolve("me/tune").manifest.digests()
    bases = {place.base for place in vault.catalogue.locate(digests).values()} - {None}
    assert bases
    assert bases <= own.keys() - theirs.keys()
    snapshot = vault.resolve("me/next")
    for entry in snapshot.manifest.files:
        content = b"".join(vault.read_file("me/next", "main", entry.path)[2])
        assert content == (folder / entry.path).read_bytes()
