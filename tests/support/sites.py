"""A vault to look at in the pages, and cards that people and attackers write."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from models import make_weights, safetensors_bytes, tune, write_model

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.tables.rows import CommitRow, FileRow

MANY = 70
SHAPES = {f"model.layers.{i}.weight": (128, 96) for i in range(4)}

PLAIN_CARD = "---\nlicense: mit\nbase_model: org/base\n---\n# A tune\n\nOf [a base](/org/base).\n"

CARD = """---
license: mit
tags: [small, tested]
base_model: org/base
---
# A model card

It has [a file](config.json), ![a picture](figures/plot.png) and ![another](https://elsewhere.test/x.png).

| metric | value |
|---|---:|
| loss | 1.25 |

```python
print("a line that is longer than a phone is wide, so that it is scrolled sideways to be read")
```
"""

HOSTILE_CARD = """---
license: "<script>document.title='front matter'</script>"
tags: ["<img src=x onerror=document.title='tag'>", "javascript:document.title='x'"]
---
# Hostile <script>document.title = "script"</script>

[markdown link](javascript:document.title='markdown')
[other case](JaVaScRiPt:document.title='case')
[data](data:text/html,<script>document.title='data'</script>)
![image](https://elsewhere.test/pixel.png)
![image](javascript:document.title='image')
<a href="javascript:document.title='link'">html link</a>
<a href="java&#10;script:document.title='newline'">broken link</a>
<a href="/-/storage" onclick="document.title='click'">handler</a>
<img src=x onerror="document.title='error'">
<img src="//elsewhere.test/pixel.png">
<svg onload="document.title='svg'"><script>document.title='svg script'</script></svg>
<iframe src="https://elsewhere.test/"></iframe>
<object data="https://elsewhere.test/"></object>
<link rel="stylesheet" href="https://elsewhere.test/x.css">
<meta http-equiv="refresh" content="0;url=https://elsewhere.test/">
<base href="https://elsewhere.test/">
<style>body { display: none; background: url(https://elsewhere.test/x.png) }</style>
<form action="https://elsewhere.test/"><input name="token"><button>send</button></form>
<p style="background: url(https://elsewhere.test/y.png)" id="main" class="skip">styled</p>
<video autoplay src="https://elsewhere.test/v.mp4" onloadstart="document.title='video'"></video>
<math><mtext><script>document.title='math'</script></mtext></math>
</article></main><script>document.title='out'</script>
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A running server with pages, and the vault behind it."""

    url: str
    vault: LocalVault


def fill_site(vault: LocalVault, root: Path) -> None:
    """Pushes a family of three, of which one is hostile, and many small models."""
    weights = make_weights(1, SHAPES)
    many = {f"blocks.{i:03d}.scale": (4,) for i in range(230)}
    base = write_model(root / "base", weights | make_weights(2, many), CARD)
    (base / "figures").mkdir()
    (base / "figures" / "plot.png").write_bytes(make_png(60, 20))
    (base / "notes <b>.txt").write_text("<b>not bold</b>\n")
    _add_many(vault, push(vault, base, "org/base").commit.id)
    push(
        vault,
        write_model(root / "tune", tune(weights, 2), PLAIN_CARD),
        "people/tune",
        base="org/base",
    )
    push(vault, write_model(root / "dev", tune(weights, 3)), "people/tune", "dev/x")
    hostile = write_model(root / "hostile", tune(weights, 4), HOSTILE_CARD)
    name = "<script>document.title='tensor'</script>"
    odd = safetensors_bytes({name: ("F32", (1,), b"\0\0\0\0")})
    (hostile / "odd.safetensors").write_bytes(odd)
    push(vault, hostile, "evil/card")


def _add_many(vault: LocalVault, oid: str) -> None:
    """Commits as they lie in the catalogue, of files of a commit that is there."""
    snapshot = vault.resolve("org/base", oid)
    entry = snapshot.manifest.files[0]
    rows = [FileRow(entry.path, entry.size, entry.digest, entry.recipe(), 0)]
    uses = {use.digest: 0 for use in entry.chunks(snapshot.manifest.chunk_bytes)}
    for number in range(MANY):
        row = CommitRow(
            f"{number:040x}",
            f"lab-{number % 7}/probe-{number:03d}",
            "main",
            None,
            snapshot.commit.manifest,
            None,
            1_700_000_000.0 + number,
        )
        vault.catalogue.add_commit(row, rows, uses, f"journal/{number:020}-probe")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(html: str) -> list[tuple[str, dict[str, str | None]]]:
    """Returns every tag of a page with its attributes, in order."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.tags


def make_png(width: int, height: int) -> bytes:
    """Returns an image of one colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + bytes([40, 120, 150]) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
