"""How long xorbs and generations stay, and what clients are told when something is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from vaults import open_anew
from xet_samples import pack_file, pack_shard, pack_xorb
from xet_server import Server, make_chunks

from weightvault.dedup.errors import Conflict, Corrupt
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.repair import Repairer
from weightvault.dedup.transfer.uploads import KEEP_SECONDS
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.dedup.xet.shard import Shard
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue

DAY = 24 * 3600.0


def test_unknown_xorb_ends_the_generation(server: Server):
    chunks = make_chunks(9, 3)
    before = server.uploads.open_generation("org")
    assert server.uploads.open_generation("org") == before
    for shard in ([pack_file([(bytes(32), chunks, 0)])], []):
        with pytest.raises(Conflict, match="not here") as caught:
            server.send_shard("org/model", *shard, xorbs=[(bytes(32), chunks)])
        assert caught.value.hint
        assert "upload again" in caught.value.hint
        after = server.uploads.open_generation("org")
        assert after.name != before.name
        before = after


def test_deleted_object_of_a_xorb_ends_the_generation(server: Server):
    chunks = make_chunks(10, 3)
    xorb = server.send_xorb("org", chunks)
    before = server.uploads.open_generation("org")
    (key,) = server.kept()
    server.vault.backend.delete(key)
    assert not server.uploads.knows_xorb(before, xorb)
    with pytest.raises(Conflict, match="cannot be read"):
        server.send_shard("org/model", pack_file([(xorb, chunks, 0)]))
    server.send_file("org/model", chunks)
    assert server.uploads.open_generation("org").name != before.name


@pytest.mark.parametrize("what", ["", ".index"])
def test_flipped_byte_never_becomes_a_file(server: Server, what: str):
    chunks = make_chunks(11, 3)
    xorb = server.send_xorb("org", chunks)
    (key,) = server.objects(what) if what else server.kept()
    server.flip(key)
    with pytest.raises(Conflict):
        server.send_shard("org/model", pack_file([(xorb, chunks, 0)]))
    server.send_file("org/model", chunks)


def test_damaged_file_ends_the_generation_and_is_mended_by_the_next_try(server: Server):
    chunks = make_chunks(12, 4, 70_000)
    xorb = server.send_file("org/model", chunks)
    before = server.uploads.open_generation("org")
    for info in list(server.vault.backend.list("packs/")):
        server.flip(info.key)
    with pytest.raises(Corrupt):
        server.read("org/model", b"".join(chunks))
    with pytest.raises(Conflict, match="cannot be read"):
        server.send_shard("org/other", pack_file([(xorb, chunks[1:], 1)]))
    assert server.uploads.open_generation("org").name != before.name
    server.send_file("org/model", chunks)
    # What is left of the damage is garbage.
    assert all("affects no file" in problem for problem in Scrubber(server.vault).run().problems)


def test_deleting_the_repo_makes_clients_start_anew(server: Server):
    chunks = make_chunks(13, 3)
    xorb = server.send_file("org/model", chunks)
    server.commit("org/model", b"".join(chunks))
    before = server.uploads.open_generation("org")
    server.vault.delete_repo("org/model")
    server.clock.ahead = KEEP_SECONDS + DAY
    server.uploads.knows_xorb(before, xorb)
    after = server.uploads.open_generation("org")
    assert after.name != before.name
    server.send_file("org/model", chunks)


def test_uploads_under_way_outlive_the_deletion_of_another_repo(server: Server):
    """The generation ends with what the other repo had; what was sent to its address is taken."""
    gone, mine, late = make_chunks(24, 3), make_chunks(25, 3), make_chunks(26, 3)
    lost = server.send_file("org/gone", gone)
    server.commit("org/gone", b"".join(gone))
    began = server.send_xorb("org", mine)
    address = server.uploads.open_generation("org").name
    server.vault.delete_repo("org/gone")
    assert server.uploads.open_generation("org").name != address
    before = server.uploads.find_generation(address)
    path = server.root / "late"
    xorb, data = pack_xorb(late)
    path.write_bytes(data)
    assert server.uploads.add_xorb(before, xorb, path)
    server.collect(grace=DAY)
    files = [pack_file([(began, mine, 0)]), pack_file([(xorb, late, 0)])]
    server.uploads.add_shard(before, "org/kept", Shard(pack_shard(files)))
    assert server.read("org/kept", b"".join(mine)) == b"".join(mine)
    assert server.read("org/kept", b"".join(late)) == b"".join(late)
    with pytest.raises(Conflict, match="cannot be read"):
        server.uploads.add_shard(
            before, "org/kept", Shard(pack_shard([pack_file([(lost, gone, 0)])]))
        )
    server.clock.ahead = 2 * DAY
    server.collect(grace=DAY)
    assert all(address not in key for key in server.objects())


def test_committed_file_keeps_the_generation_after_its_upload_expired(server: Server):
    chunks = make_chunks(14, 3)
    xorb = server.send_file("org/model", chunks)
    server.commit("org/model", b"".join(chunks))
    before = server.uploads.open_generation("org")
    server.clock.ahead = KEEP_SECONDS - DAY
    assert server.uploads.knows_xorb(before, xorb)
    server.clock.ahead = 2 * KEEP_SECONDS - 2 * DAY
    server.collect()
    assert server.uploads.open_generation("org") == before
    assert server.upload("org/model", [(xorb, chunks[1:], 1)]) == b"".join(chunks[1:])


def test_collection_takes_what_killed_clients_left(server: Server):
    chunks = make_chunks(15, 3)
    server.send_xorb("org", chunks)
    server.collect(grace=DAY)
    assert len(server.kept()) == 1
    server.clock.ahead = 2 * DAY
    server.collect(grace=DAY)
    assert server.objects() == []
    # The client remembers it all the same: told so once, it starts anew.
    xorb, _ = pack_xorb(chunks)
    with pytest.raises(Conflict):
        server.send_shard("org/model", pack_file([(xorb, chunks, 0)]))
    server.send_file("org/model", chunks)


def test_collection_takes_xorbs_unused_for_weeks_and_ended_generations(server: Server):
    chunks, more = make_chunks(16, 3), make_chunks(17, 3)
    server.send_file("org/model", chunks)
    server.commit("org/model", b"".join(chunks))
    server.clock.ahead = KEEP_SECONDS - DAY
    server.collect()
    assert len(server.objects(".index")) == 1
    server.clock.ahead = KEEP_SECONDS + DAY
    server.collect()
    assert server.objects() == []
    server.send_xorb("org", more)
    with pytest.raises(Conflict):
        server.send_shard("org/model", pack_file([(bytes(32), chunks, 0)]))
    assert len(server.objects()) == 2
    server.clock.ahead += DAY
    server.collect()
    assert server.objects() == []


def test_objects_of_another_catalogue_are_left_for_weeks(server: Server):
    server.vault.backend.put(f"xorbs/{'0' * 32}/{'1' * 64}", b"theirs")
    server.clock.ahead = KEEP_SECONDS - DAY
    server.collect()
    assert len(server.objects()) == 1
    server.clock.ahead = KEEP_SECONDS + DAY
    server.collect()
    assert server.objects() == []


def test_restart_between_xorb_and_shard_and_commit(server: Server):
    chunks = make_chunks(18, 3)
    xorb = server.send_xorb("org", chunks)
    server.open()
    assert server.upload("org/model", [(xorb, chunks, 0)]) == b"".join(chunks)
    server.open()
    server.commit("org/model", b"".join(chunks))
    assert server.upload("org/model", [(xorb, chunks[1:], 1)]) == b"".join(chunks[1:])


def test_rebuilt_catalogue_keeps_files_and_starts_a_new_generation(server: Server):
    chunks = make_chunks(19, 3)
    server.send_file("org/model", chunks)
    before = server.uploads.open_generation("org")
    server.vault.close()
    server.serve(open_anew(server.root))
    assert server.read("org/model", b"".join(chunks)) == b"".join(chunks)
    assert server.uploads.open_generation("org").name != before.name


def test_servers_that_share_database_and_bucket(tmp_path: Path, postgres_url: str, s3_url: str):
    servers = []
    for name in ("a", "b"):
        scratch = tmp_path / name
        scratch.mkdir()
        server = Server(scratch)
        catalogue = open_catalogue(postgres_url, migrate=True)
        server.serve(LocalVault(open_backend(s3_url), catalogue, scratch=scratch))
        servers.append(server)
    a, b = servers
    chunks, more = make_chunks(21, 5), make_chunks(22, 4)
    first, second = a.send_xorb("org", chunks), b.send_xorb("org", more)
    assert a.uploads.open_generation("org") == b.uploads.open_generation("org")
    whole = b"".join(chunks + more)
    assert b.upload("org/model", [(first, chunks, 0), (second, more, 0)]) == whole
    assert a.kept() == []
    part = [(second, more[1:], 1), (first, chunks[:2], 0)]
    assert a.upload("org/other", part) == b"".join(more[1:] + chunks[:2])
    with pytest.raises(Conflict):
        a.send_shard("org/model", pack_file([(bytes(32), chunks, 0)]))
    assert b.uploads.open_generation("org") == a.uploads.open_generation("org")
    a.clock.ahead = 2 * DAY
    a.collect(grace=DAY)
    assert b.objects() == []
    for server in servers:
        server.vault.close()


def test_scrub_and_repair_see_to_indexes(server: Server):
    chunks = make_chunks(23, 3)
    server.send_file("org/model", chunks)
    assert Scrubber(server.vault).run().problems == []
    (key,) = server.objects(".index")
    server.flip(key, 5)
    (problem,) = Scrubber(server.vault).run().problems
    assert key in problem
    assert "send it again" in problem
    before = server.uploads.open_generation("org")
    Repairer(server.vault).run()
    assert Scrubber(server.vault).run().problems == []
    assert server.uploads.open_generation("org") != before
    server.send_file("org/model", chunks)
