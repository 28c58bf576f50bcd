"""What people do with a hub, done by the real client: run by the interpreter of its environment.

    python driver.py ENDPOINT TOKEN FOLDER TYPE WATCHER

WATCHER is a token that may read the server's metrics.

Prints one line for each step that went right; stops at the first that does not. Needs nothing but
huggingface_hub, of any version from 0.36 on.
"""

# Run by another interpreter, which has what is missing here.
# pyright: reportMissingImports=false
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

ENDPOINT, TOKEN, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
TYPE, WATCHER = sys.argv[4:]
os.environ.update(
    HF_ENDPOINT=ENDPOINT,
    HF_TOKEN=TOKEN,
    HF_HOME=str(FOLDER / "home"),
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
)

import huggingface_hub as hub  # noqa: E402
from huggingface_hub import (  # noqa: E402
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    errors,
    hf_hub_download,
    snapshot_download,
)

REPO = f"me/driver-{TYPE}"
WEIGHTS_BYTES = 30_000_000
api = HfApi()
kind = {"repo_type": TYPE}


def step(name):
    print(f"ok {name}", flush=True)


def counted(name: str) -> int:
    """What a counter of the server's stands at, over all routes."""
    headers = {"Authorization": f"Bearer {WATCHER}"}
    with urlopen(Request(f"{ENDPOINT}/metrics", headers=headers)) as answer:
        lines = answer.read().decode().splitlines()
    samples = [line for line in lines if line.startswith(f"weightvault_{name}_total")]
    return sum(int(float(line.rpartition(" ")[2])) for line in samples)


def make_weights(seed: int, size: int) -> bytes:
    rng = random.Random(seed)
    half = size // 2 // 4 * 4
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [half // 4], "data_offsets": [0, half]},
        "b": {"dtype": "U8", "shape": [size - half], "data_offsets": [half, size]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rng.randbytes(size)


def read(folder) -> dict:
    folder = Path(folder)
    files = (p for p in folder.rglob("*") if p.is_file())
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
    return {name: data for name, data in found.items() if not name.startswith(".cache")}


def refused(kind_of_error, call, *args, **options):
    try:
        call(*args, **options)
    except kind_of_error as error:
        return error
    raise AssertionError(f"{call} was not refused with {kind_of_error}")


model = FOLDER / "model"
(model / "sub").mkdir(parents=True)
(model / "model.safetensors").write_bytes(make_weights(1, WEIGHTS_BYTES))
(model / "config.json").write_text('{"hidden_size": 64}')
(model / "sub" / "notes with space.txt").write_text("é notes\n" * 100)
(model / "empty.txt").write_bytes(b"")

assert api.whoami()["name"]
step("whoami")

url = api.create_repo(REPO, **kind)
assert url.repo_id == REPO, url
api.create_repo(REPO, exist_ok=True, **kind)
refused(errors.HfHubHTTPError, api.create_repo, REPO, **kind)
# With which repos begin; a model that is uploaded has them, too.
attributes = Path(hf_hub_download(REPO, ".gitattributes", **kind)).read_bytes()
(model / ".gitattributes").write_bytes(attributes)
step("create")

first = api.upload_folder(repo_id=REPO, folder_path=model, commit_message="first", **kind)
step("upload folder")
before = api.repo_info(REPO, **kind).sha
received = counted("received_bytes")
api.upload_folder(repo_id=REPO, folder_path=model, commit_message="again", **kind)
# Names and samples, but no content.
assert counted("received_bytes") - received < 10_000
assert api.repo_info(REPO, **kind).sha == before
step("upload again")

assert sorted(api.list_repo_files(REPO, **kind)) == sorted(read(model))
info = api.repo_info(REPO, files_metadata=True, **kind)
assert info.private
assert info.sha == before
sizes = {s.rfilename: s.size for s in info.siblings}
assert sizes == {name: len(data) for name, data in read(model).items()}, sizes
(weights,) = api.get_paths_info(REPO, ["model.safetensors"], **kind)
assert weights.lfs.sha256 == hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
tree = list(api.list_repo_tree(REPO, recursive=True, expand=True, **kind))
assert {t.path for t in tree} == {*read(model), "sub"}
uploaded = [t for t in tree if t.path != ".gitattributes"]
assert all(t.last_commit.title == "first" for t in uploaded), tree
step("list")

got = snapshot_download(REPO, **kind)
assert read(got) == read(model)
assert snapshot_download(REPO, local_files_only=True, **kind) == got
requests = counted("requests")
assert snapshot_download(REPO, **kind) == got
# One, beside that which asked for the count before.
assert counted("requests") - requests == 2
step("snapshot")
if hub.__version__ >= "1.":
    command = [str(Path(sys.executable).with_name("hf")), "cache", "verify", REPO]
    if TYPE != "model":
        command += ["--repo-type", TYPE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
step("cache verify")

path = hf_hub_download(REPO, "sub/notes with space.txt", **kind)
assert Path(path).read_text() == "é notes\n" * 100
local = FOLDER / "local"
hf_hub_download(REPO, "model.safetensors", local_dir=local, **kind)
hf_hub_download(REPO, "model.safetensors", local_dir=local, **kind)
assert (local / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
step("single file")

api.upload_file(path_or_fileobj=b"some bytes", path_in_repo="new/file.txt", repo_id=REPO, **kind)
api.upload_file(
    path_or_fileobj=make_weights(2, 3_000_000), path_in_repo="two.safetensors", repo_id=REPO, **kind
)
with (model / "model.safetensors").open("rb") as stream:
    api.upload_file(path_or_fileobj=stream, path_in_repo="three.bin", repo_id=REPO, **kind)
step("upload file")

api.delete_file("new/file.txt", REPO, **kind)
assert not api.file_exists(REPO, "new/file.txt", **kind)
assert api.file_exists(REPO, "config.json", **kind)
error = refused(errors.HfHubHTTPError, api.delete_file, "new/file.txt", REPO, **kind)
assert "doesn't exist" in str(error), error
step("delete")

copied = api.create_commit(
    REPO,
    [
        CommitOperationCopy("two.safetensors", "copied/two.safetensors"),
        CommitOperationCopy("config.json", "copied/config.json"),
        CommitOperationDelete("three.bin"),
    ],
    commit_message="copy",
    commit_description="and delete",
    **kind,
)
assert len(copied.oid) == 40
path = hf_hub_download(REPO, "copied/two.safetensors", **kind)
assert Path(path).read_bytes() == make_weights(2, 3_000_000)
api.delete_folder("copied", REPO, **kind)
assert not [name for name in api.list_repo_files(REPO, **kind) if name.startswith("copied")]
step("copy")

error = refused(
    errors.HfHubHTTPError,
    api.create_commit,
    REPO,
    [CommitOperationAdd("x.txt", b"x")],
    commit_message="stale",
    parent_commit=before,
    **kind,
)
assert error.response.status_code == 412, error
head = api.repo_info(REPO, **kind).sha
api.create_commit(
    REPO, [CommitOperationAdd("x.txt", b"x")], commit_message="fresh", parent_commit=head, **kind
)
step("parent commit")

api.create_branch(REPO, branch="dev/x", **kind)
refused(errors.HfHubHTTPError, api.create_branch, REPO, branch="dev/x", **kind)
api.create_branch(REPO, branch="dev/x", exist_ok=True, **kind)
api.create_branch(REPO, branch="old", revision=before, **kind)
api.upload_file(
    path_or_fileobj=b"on a branch", path_in_repo="b.txt", repo_id=REPO, revision="dev/x", **kind
)
path = hf_hub_download(REPO, "b.txt", revision="dev/x", **kind)
assert Path(path).read_text() == "on a branch"
got = snapshot_download(REPO, revision="dev/x", allow_patterns="*.txt", **kind)
assert "b.txt" in read(got)
assert not api.file_exists(REPO, "b.txt", **kind)
assert read(snapshot_download(REPO, revision="old", **kind)) == read(model)
step("branch with a slash")

api.create_tag(REPO, tag="v1.0", tag_message="first", **kind)
api.create_tag(REPO, tag="v1.0", exist_ok=True, **kind)
refs = api.list_repo_refs(REPO, **kind)
assert {b.name for b in refs.branches} == {"main", "dev/x", "old"}
assert {t.name for t in refs.tags} == {"v1.0"}
assert api.repo_info(REPO, revision="v1.0", **kind).sha == refs.tags[0].target_commit
api.delete_tag(REPO, tag="v1.0", **kind)
api.delete_branch(REPO, branch="dev/x", **kind)
refused(errors.RevisionNotFoundError, api.repo_info, REPO, revision="dev/x", **kind)
step("tag")

pull = api.create_commit(
    REPO, [CommitOperationAdd("p.txt", b"p")], commit_message="propose", create_pr=True, **kind
)
assert pull.pr_revision == "refs/pr/1", pull
assert Path(hf_hub_download(REPO, "p.txt", revision="refs/pr/1", **kind)).read_bytes() == b"p"
assert not api.file_exists(REPO, "p.txt", **kind)
folder = api.upload_folder(
    repo_id=REPO,
    folder_path=model,
    path_in_repo="proposed",
    commit_message="propose a folder",
    create_pr=True,
    **kind,
)
number = folder.pr_revision if hasattr(folder, "pr_revision") else "refs/pr/2"
assert number == "refs/pr/2", folder
got = snapshot_download(REPO, revision="refs/pr/2", allow_patterns="proposed/*", **kind)
assert read(Path(got) / "proposed") == read(model)
assert not api.file_exists(REPO, "proposed/config.json", **kind)
commit_id = api.repo_info(REPO, **kind).sha
proposal = {"commit_message": "propose", "create_pr": True, "revision": commit_id}
refused(
    errors.RevisionNotFoundError,
    api.create_commit,
    REPO,
    [CommitOperationAdd("p.txt", b"p")],
    **proposal,
    **kind,
)
step("pull request")

assert api.repo_info(REPO, revision=commit_id[:7], **kind).sha == commit_id
assert api.repo_info(REPO, revision="HEAD", **kind).sha == commit_id
other = FOLDER / "other"
path = hf_hub_download(REPO, "config.json", revision=commit_id[:7], cache_dir=other, **kind)
assert Path(path).read_text() == (model / "config.json").read_text()
assert api.list_repo_commits(REPO, formatted=True, **kind)[0].formatted_title
refused(errors.RepositoryNotFoundError, api.repo_info, "gpt2", **kind)
refused(errors.RepositoryNotFoundError, hf_hub_download, "gpt2", "config.json", **kind)
assert not api.repo_exists("gpt2", **kind)
step("other names of revisions and repos")

log = api.list_repo_commits(REPO, **kind)
assert log[-2].title == "first"
assert log[-2].commit_id == first.oid == before
assert log[0].title == "fresh"
assert "and delete" in [entry.message for entry in log]
assert all(entry.authors for entry in log)
step("history")

names = [repo.id for repo in (api.list_models if TYPE == "model" else api.list_datasets)()]
assert REPO in names, names
found = (api.list_models if TYPE == "model" else api.list_datasets)(search="DRIVER", limit=1)
assert [repo.id for repo in found] == [REPO]
assert api.repo_exists(REPO, **kind)
assert not api.repo_exists("me/none", **kind)
step("list repos")

prefix = {"model": "", "dataset": "datasets/"}[TYPE]
files = HfFileSystem()
whole = (model / "model.safetensors").read_bytes()
with files.open(f"{prefix}{REPO}/model.safetensors", block_size=1 << 16) as stream:
    stream.seek(12_345_678)
    assert stream.read(1000) == whole[12_345_678 : 12_345_678 + 1000]
    stream.seek(-10, 2)
    assert stream.read() == whole[-10:]
assert f"{prefix}{REPO}/config.json" in files.ls(f"{prefix}{REPO}", detail=False)
step("file system")

if TYPE == "model":
    metadata = api.get_safetensors_metadata(REPO)
    assert metadata.files_metadata["model.safetensors"].tensors["a"].dtype == "F32"
    step("safetensors header")
    card = b"---\nlicense: mit\ntags: [x]\nlibrary_name: y\n---\n# Card\n"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=REPO)
    bad = b"---\na: [\n---\n"
    upload = {"path_or_fileobj": bad, "path_in_repo": "README.md", "repo_id": REPO}
    refused((ValueError, errors.HfHubHTTPError), api.upload_file, **upload)
    info = api.model_info(REPO)
    assert info.card_data.license == "mit"
    assert info.library_name == "y"
    step("card")

missing = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)
refused(missing, hf_hub_download, REPO, "none.txt", **kind)
refused(errors.RevisionNotFoundError, hf_hub_download, REPO, "config.json", revision="none", **kind)
refused(errors.RepositoryNotFoundError, hf_hub_download, "me/none", "config.json", **kind)
refused(errors.RepositoryNotFoundError, api.repo_info, "me/none", **kind)
refused(errors.RepositoryNotFoundError, api.repo_info, "other/secret", **kind)
refused(errors.RepositoryNotFoundError, snapshot_download, REPO, token=False, revision=None, **kind)
error = refused(Exception, HfApi(token="wv_wrong").whoami)
assert "Invalid user token" in str(error), error
error = refused(errors.HfHubHTTPError, api.create_repo, "other/mine", **kind)
assert error.response.status_code == 403, error
step("error classes")

api.update_repo_settings(REPO, private=False, **kind)
assert not api.repo_info(REPO, **kind).private
step("settings")

files = api.list_repo_files(REPO, **kind)
api.super_squash_history(REPO, **kind)
assert len(api.list_repo_commits(REPO, **kind)) == 1
assert api.list_repo_files(REPO, **kind) == files
step("squash")

error = refused(errors.HfHubHTTPError, api.update_repo_settings, REPO, gated="auto", **kind)
assert "gated" in str(error), error
step("what is not there")

moved = f"{REPO}-moved"
log, refs = api.list_repo_commits(REPO, **kind), api.list_repo_refs(REPO, **kind)
api.move_repo(REPO, moved, **kind)
# Its name of before leads to it.
assert api.repo_info(REPO, **kind).id == moved
assert api.file_exists(REPO, "config.json", **kind)
assert read(snapshot_download(REPO, **kind)) == read(snapshot_download(moved, **kind))
api.upload_file(path_or_fileobj=b"m", path_in_repo="by-old-name.txt", repo_id=REPO, **kind)
api.delete_file("by-old-name.txt", REPO, **kind)
log = api.list_repo_commits(moved, **kind)[:2] + log
refs = api.list_repo_refs(moved, **kind)
assert [c.commit_id for c in api.list_repo_commits(moved, **kind)] == [c.commit_id for c in log]
assert api.list_repo_refs(moved, **kind) == refs
assert not api.repo_info(moved, **kind).private
assert read(snapshot_download(moved, revision=before, **kind)) == read(model)
api.create_repo(REPO, **kind)
refused(errors.HfHubHTTPError, api.move_repo, moved, REPO, **kind)
refused(errors.HfHubHTTPError, api.move_repo, moved, "other/moved", **kind)
api.delete_repo(moved, **kind)
step("move")

api.delete_repo(REPO, **kind)
assert not api.repo_exists(REPO, **kind)
api.delete_repo(REPO, missing_ok=True, **kind)
refused(errors.RepositoryNotFoundError, api.delete_repo, REPO, **kind)
step("delete repo")
print("all done", hub.__version__)
