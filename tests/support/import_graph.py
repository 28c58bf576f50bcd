"""Who imports whom in the product, TYPE_CHECKING included: circles, and imports that go upwards.

    python tests/support/import_graph.py

prints both, and how many modules there are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("codecs", "store", "dedup", "api")

# What lies in a room, or in a package with packages of its own, from the lowest floor up: each may
# import only what stands before it. Modules of other packages have no order, but no circle either.
FLOORS: dict[str, tuple[str, ...]] = {
    "": ("codecs", "store", "dedup", "api"),
    "codecs": (
        "errors",
        "dtypes",
        "jit",
        "buffers",
        "threads",
        "row_map",
        "registry",
        "frame",
        "flat",
        "planes",
        "simd",
        "prefix",
        "rans",
        "quantised",
        "blocks",
        "delta",
        "texts",
        "multiples",
        "tensors",
        "derived",
        "pipeline",
        "ranges",
    ),
    "store": (
        "private",
        "errors",
        "object_keys",
        "cancel",
        "hashing",
        "repo_names",
        "backend",
        "backends",
        "packs",
        "catalogue",
        "folder_state",
    ),
    "store.catalogue": (
        "tables",
        "edges",
        "lost_entries",
        "visibility",
        "tokens",
        "owners",
        "sketches",
        "spare_frames",
        "dependencies",
        "refs",
        "repo_list",
        "repo_facts",
        "access",
        "commits",
        "files",
        "damage",
        "queues",
        "moved_frames",
        "tombstones",
        "catalogue",
        "reports",
    ),
    "store.catalogue.tables": (
        "entry_keys",
        "migrations",
        "blobs",
        "schema",
        "token_schema",
        "xet_schema",
        "mirror_schema",
        "job_schema",
        "fact_schema",
        "journal_chain",
        "migrate",
        "rows",
        "database",
    ),
    "store.catalogue.tables.migrations": ("versions", "env"),
    "dedup": (
        "errors",
        "progress",
        "derivations",
        "model",
        "vault",
        "xet",
        "formats",
        "reading",
        "similarity",
        "derivations",
        "repository",
        "verification",
        "transfer",
        "maintenance",
        "reports",
        "local_vault",
    ),
    "dedup.model": (
        "strict_json",
        "names",
        "paths",
        "cards",
        "report",
        "words",
        "bills",
        "history",
        "file_kinds",
        "families",
        "inputs",
        "files",
        "sketch",
        "sketch_file",
        "journal_entries",
        "store_marker",
    ),
    "dedup.derivations": (
        "operations",
        "masks",
        "recipe",
        "selection",
        "predict",
        "derived_frames",
        "guesses",
    ),
    "dedup.derivations.guesses": (
        "tensors",
        "layouts",
        "kinds",
        "codes",
        "scales",
        "casts",
        "gguf",
        "scaled",
        "grouped",
        "pruned",
        "row_hashes",
        "selected",
        "merged",
        "adapters",
        "registry",
    ),
    "dedup.derivations.operations.gguf": (
        "arithmetic",
        "searches",
        "layout",
        "simple",
        "k_minima",
        "k_symmetric",
        "iq4",
        "mx",
        "ternary",
        "lanes",
        "k_quants",
        "dequantise",
        "margins",
        "blocks",
        "operation",
    ),
    "dedup.derivations.operations.gguf.lanes": ("vectors", "lines", "scales", "search"),
    "dedup.formats": (
        "cutting",
        "source",
        "protobuf",
        "gguf",
        "ggml",
        "hdf5",
        "indexes",
        "msgpack",
        "npy",
        "onnx",
        "paddle",
        "safetensors",
        "tars",
        "torch",
        "zips",
        "oddities",
        "companions",
        "registry",
        "scan",
    ),
    "api": (
        "errors",
        "extras",
        "terminal",
        "key_file",
        "formatting",
        "report_text",
        "bill_text",
        "protocol",
        "client",
        "requests",
        "sending",
        "cache_config",
        "config",
        "server_config",
        "trial",
        "progress",
        "library",
        "mirror",
        "v1",
        "hub",
        "web",
        "server",
        "cli",
    ),
    "api.cli": ("exits", "signals", "streams", "console", "options", "completion", "verbs", "main"),
    "api.library": (
        "errors",
        "names",
        "arrays",
        "slices",
        "tensor_source",
        "tensor_file",
        "statistics",
        "diff",
        "operations",
        "saving",
        "handle",
        "repo",
        "vault",
        "opening",
        "adapters",
    ),
    "api.hub": (
        "errors",
        "bodies",
        "attributes",
        "ignored",
        "files",
        "signing",
        "routing",
        "state",
        "lfs_grants",
        "card_check",
        "users",
        "cache_export",
        "reading",
        "mirrored",
        "lfs",
        "writing",
        "xet",
        "router",
    ),
}

Graph = Mapping[str, set[str]]


def find_modules() -> dict[str, Path]:
    """Returns the product's modules by their dotted names below the package."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py"
    }


def read_graph() -> dict[str, set[str]]:
    """Returns for each module those that it imports, wherever in it the import stands."""
    modules = find_modules()
    return {name: set(_imported(name, path, modules)) - {name} for name, path in modules.items()}


def _imported(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                inner, outer = ".".join([*base, alias.name]), ".".join(base)
                if inner in modules or outer in modules:
                    yield inner if inner in modules else outer


def find_circles(graph: Graph) -> list[list[str]]:
    """Returns the sets of modules that import each other (Tarjan's strong components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                circles.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in order:
            visit(node)
    return circles


def find_upward(graph: Graph) -> list[str]:
    """Returns a sentence for each import of something that stands no lower."""
    return [
        f"{name} imports {other}: {there} stands above {here}"
        for name, others in graph.items()
        for other in sorted(others)
        for package, here, there in [_part(name, other)]
        if package in FLOORS and _floor(package, there) >= _floor(package, here)
    ]


def _part(name: str, other: str) -> tuple[str, str, str]:
    """Returns the innermost package that both are in, and what of it each is or is in."""
    ours, theirs = name.split("."), other.split(".")
    same = 0
    while ours[same] == theirs[same]:
        same += 1
    return ".".join(ours[:same]), ours[same], theirs[same]


def _floor(package: str, part: str) -> int:
    floors = FLOORS[package]
    assert part in floors, f"{part} has no floor in {package or 'the product'}: see FLOORS"
    return floors.index(part)


def main() -> None:
    """Prints what is wrong, and the counts."""
    graph = read_graph()
    circles, upward = find_circles(graph), find_upward(graph)
    for circle in circles:
        print("circle:", ", ".join(circle))
    for sentence in upward:
        print("upward:", sentence)
    print(f"{len(graph)} modules, {len(circles)} circles, {len(upward)} upward imports")


if __name__ == "__main__":
    main()
