"""One thing that a person does with a hub, done by the real client: run by its interpreter.

xet_client.py upload REPO FILE NAME     prints the id of the commit
xet_client.py folder REPO FOLDER        uploads all files of a folder as one commit
xet_client.py delete REPO NAME
xet_client.py drop REPO
xet_client.py download REPO NAME        prints the SHA-256 of the file
"""

import hashlib
import sys
import tempfile
from pathlib import Path

from huggingface_hub import (  # pyright: ignore[reportMissingImports]
    HfApi,
    hf_hub_download,
)

verb, repo, *rest = sys.argv[1:]
api = HfApi()
if verb == "upload":
    api.create_repo(repo, exist_ok=True)
    file, name = rest
    print(api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id=repo).oid)
elif verb == "folder":
    api.create_repo(repo, exist_ok=True)
    print(api.upload_folder(folder_path=rest[0], repo_id=repo).oid)
elif verb == "delete":
    api.delete_file(rest[0], repo)
elif verb == "drop":
    api.delete_repo(repo)
elif verb == "download":
    with tempfile.TemporaryDirectory() as fresh:
        path = hf_hub_download(repo, rest[0], cache_dir=fresh)
        print(hashlib.sha256(Path(path).read_bytes()).hexdigest())
