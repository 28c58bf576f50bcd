"""weightvault: AI model weights, stored losslessly in a fraction of their size.

    import weightvault as wv

    with wv.open("http://hub:8377") as vault:            # a folder, s3://bucket/prefix, or a server
        vault.push("./tune", "org/tune", message="epoch 3")
        with vault.safe_open("org/tune@v1") as tensors:
            weight = tensors.get_tensor("layer.0.weight")

What is here is loaded when it is first used. docs/library.md shows all of it.
"""

__version__ = "0.2.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .api.library import errors
    from .api.library.adapters import aio, torch
    from .api.library.diff import Diff, FileChange, TensorChange
    from .api.library.errors import VaultError
    from .api.library.opening import load_file, safe_open
    from .api.library.opening import open_vault as open
    from .api.library.repo import Repo, TensorInfo
    from .api.library.tensor_file import TensorFile, TensorSlice
    from .api.library.vault import Vault

_PLACES = {
    "open": ("opening", "open_vault"),
    "safe_open": ("opening", "safe_open"),
    "load_file": ("opening", "load_file"),
    "Vault": ("vault", "Vault"),
    "Repo": ("repo", "Repo"),
    "TensorInfo": ("repo", "TensorInfo"),
    "TensorFile": ("tensor_file", "TensorFile"),
    "TensorSlice": ("tensor_file", "TensorSlice"),
    "Diff": ("diff", "Diff"),
    "FileChange": ("diff", "FileChange"),
    "TensorChange": ("diff", "TensorChange"),
    "VaultError": ("errors", "VaultError"),
    "errors": ("errors", None),
    "aio": ("adapters.aio", None),
    "torch": ("adapters.torch", None),
}

__all__ = [
    "Diff",
    "FileChange",
    "Repo",
    "TensorChange",
    "TensorFile",
    "TensorInfo",
    "TensorSlice",
    "Vault",
    "VaultError",
    "aio",
    "errors",
    "load_file",
    "open",
    "safe_open",
    "torch",
]


def __getattr__(name):
    """Loads what is asked for (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PLACES[name]
    found = import_module(f"{__name__}.api.library.{module}")
    if attribute is not None:
        found = getattr(found, attribute)
    globals()[name] = found
    return found


def __dir__():
    return sorted([*globals(), *__all__])
