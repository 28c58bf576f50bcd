"""Files that lead their readers in circles cost what their bytes cost, and come back unchanged."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_files import (
    circular_hdf5,
    gguf_with,
    hdf5_header_in_itself,
    hdf5_tree_in_itself,
    list_hostile,
    nested_onnx,
    nested_zip,
    overlapping_zip,
    zip_in_itself,
)
from hostile_requests import Target, attacked, commit_lines, push_card

from weightvault.dedup.formats.registry import segment_file

BOMBS = {
    "circular.h5": circular_hdf5(),
    "tree.h5": hdf5_tree_in_itself(),
    "header.h5": hdf5_header_in_itself(),
    "overlapping.npz": overlapping_zip(),
    "nested.npz": nested_zip(),
    "itself.npz": zip_in_itself(),
    "nested.onnx": nested_onnx(),
    "many.gguf": gguf_with((0, 2**40), b"\1\0\0\0\0\0\0\0k\4\0\0\0\0\0\0\0" * 2000),
    "lists.msgpack": b"\x91" * 60_000,
    "marks.bin": b"\x80\x02" + b"(" * 60_000 + b".",
}


class CountingFile(io.BytesIO):
    """Counts how often it is read, and how many bytes in all."""

    reads = 0
    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.taken += len(data)
        return data


@pytest.mark.parametrize("name", BOMBS)
def test_reads_are_in_proportion_to_bytes(name: str):
    file = CountingFile(BOMBS[name])
    size = len(BOMBS[name])
    segments = segment_file(name, file, size)
    assert sum(segment.size for segment in segments) == size
    # Content-defined chunks of what no format explains are one more reading of all.
    assert file.reads <= 200 + size // 8
    assert file.taken <= (1 << 20) + 512 * size


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    root: Path = tmp_path_factory.mktemp("bombs")
    with attacked(root / "served") as found:
        push_card(found, root / "model", "# A model\n")
        yield found


def test_bombs_come_back_over_http(target: Target):
    files = {f"bombs/{name}": data for name, data in BOMBS.items()}
    for number, (name, data) in enumerate(list_hostile()):
        files[f"others/{number}-{Path(name).name}"] = data
    lines = [
        {
            "key": "file",
            "value": {
                "path": path,
                "content": base64.b64encode(data).decode(),
                "encoding": "base64",
            },
        }
        for path, data in files.items()
        if len(data) < 1 << 20
    ]
    answer = target.http.post("/api/models/org/m/commit/main", content=commit_lines(*lines))
    assert answer.status_code == 200, answer.text[:500]
    for path in (line["value"]["path"] for line in lines):
        assert target.http.get(f"/org/m/resolve/main/{path}").content == files[path]
        assert target.http.get(f"/org/m/blob/main/{path}").status_code == 200
    for page in ("/org/m", "/org/m/tree/main", "/org/m/tensors", "/api/models/org/m?blobs=true"):
        assert target.http.get(page).status_code == 200
