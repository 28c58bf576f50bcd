"""The rules that hold the rooms apart, and the package list together."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from import_graph import find_circles, find_upward, read_graph

ROOT = Path(__file__).parents[1]
ROOMS = ("store", "codecs", "dedup", "api")
MAY_IMPORT = {
    "store": {"store"},
    "codecs": {"codecs"},
    "dedup": {"dedup", "codecs", "store"},
    "api": {"api", "dedup", "store"},
}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    """The rooms a module imports, relatively or by the package's name."""
    depth = len(path.relative_to(ROOT).parts) - 1
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level > depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            rooms.update(name.split(".")[0] for name in names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert not (node.module or "").startswith("weightvault"), path
        elif isinstance(node, ast.Import):
            assert not any(a.name.startswith("weightvault") for a in node.names), path
    return rooms - {"__version__"}


def package_folders() -> list[str]:
    return sorted({str(path.parent.relative_to(ROOT)) for room in ROOMS for path in modules(room)})


def test_nothing_imports_in_a_circle_or_upwards():
    graph = read_graph()
    assert find_circles(graph) == []
    assert find_upward(graph) == []


def test_folders_can_be_taken_in_at_a_glance():
    for folder in package_folders():
        files = list((ROOT / folder).glob("*.py"))
        # Migrations only ever become more.
        assert len(files) <= 16 or folder.endswith("versions"), folder
    entries = [e for e in (ROOT / "dedup").iterdir() if e.name != "__pycache__"]
    assert len(entries) <= 16


@pytest.mark.parametrize("folder", package_folders())
def test_packages_say_what_lives_there(folder: str):
    text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or ""
    if not folder.endswith("versions"):
        assert "Imports" in text, f"{folder}: says not what it may import"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_below(room: str):
    for path in modules(room):
        assert imported_rooms(path) <= MAY_IMPORT[room], path


@pytest.mark.parametrize("room", ROOMS)
def test_only_api_reads_arguments_and_environment(room: str):

    allowed = {"api"}
    for path in modules(room) if room not in allowed else []:
        text = path.read_text()
        assert "os.environ" not in text, path
        assert "sys.argv" not in text, path


@pytest.mark.parametrize("folder", [".", *package_folders()])
def test_package_files_are_inert(folder: str):
    tree = ast.parse((ROOT / folder / "__init__.py").read_text())
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        # The top shows the library, which it loads when it is asked for.
        is_top = folder == "." and isinstance(node, ast.Assign | ast.FunctionDef)
        is_typing = folder == "." and ast.unparse(node).startswith("if TYPE_CHECKING:")
        assert is_docstring or is_top or is_typing, ast.unparse(node)


def test_package_list_names_every_folder():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent for room in ROOMS for p in modules(room)}
    names = {"weightvault." + ".".join(f.relative_to(ROOT).parts) for f in folders}
    assert set(settings["packages"]) == {"weightvault"} | names


def test_peers_are_never_imported():
    for room in ROOMS:
        for path in modules(room):
            for peer in ("zipnn", "openzl", "pcodec", "blosc2", "torch", "pickle"):
                # The library makes tensors of bytes; files of torch are taken apart without it.
                if peer == "torch" and ROOT / "api" / "library" in path.parents:
                    continue
                # pickletools only reads opcodes.
                assert not re.search(rf"(import|from) {peer}\b", path.read_text()), path


def test_kernels_are_compiled_by_one_module():
    """Numba's own decorator fails where it finds no place for its cache."""
    for path in [p for room in ROOMS for p in modules(room) if p.name != "cached.py"]:
        assert not re.search(r"from numba import .*njit|numba\.njit", path.read_text()), path


def test_importing_the_package_loads_nothing_else():
    program = (
        "import sys, weightvault; print([m for m in sys.modules if m.startswith('weightvault.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_keys_of_objects_are_spelled_in_one_module():
    folders = "packs|sketches|manifests|heads|xorbs|quarantine|uploads"
    for path in [p for room in ("store", "dedup") for p in modules(room)]:
        if path.name == "object_keys.py" or "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.fullmatch(rf"({folders}|journal)/|weightvault\.json", node.value), (
                    path
                )


def test_what_frames_need_is_asked_in_one_module():
    """So that a frame with other inputs than a delta's is known everywhere (ARCHITECTURE.md,
    "Edges"): the columns are spelled by the schema, by what reads a whole row, and there alone."""
    known = {"edges.py", "schema.py", "rows.py"}
    folder = ROOT / "store" / "catalogue"
    for path in [p for p in modules("store") if "migrations" not in p.parts]:
        text = path.read_text()
        found = re.search(r"\bchunk_inputs\b|\.c\.(inputs|level)\b", text)
        assert not found or (path.name in known and folder in path.parents), path


def test_names_of_repos_are_taken_apart_in_one_module():
    """A card's metadata and a hub's request have fields of these names, which are no prefixes."""
    for path in [p for room in ROOMS for p in modules(room)]:
        if path.stem in ("repo_names", "card", "card_check", "asked"):
            continue
        text = path.read_text()
        assert not re.search(r"""["'](models|datasets|spaces)/?["']""", text), path
        assert not re.search(r"""repo(\.name)?\.(r?partition|r?split)\(["']/""", text), path


def test_the_journal_is_written_in_one_module():
    """Only there an entry gets its time, its place behind the newest ones, and its bytes."""
    where = {
        path.stem for room in ROOMS for path in modules(room) if "pack_entry" in path.read_text()
    }
    assert where == {"journal_entries", "writing"}


def test_files_and_functions_are_short():
    for path in [p for room in ROOMS for p in modules(room) if "versions" not in p.parts]:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, (path, node.name)
