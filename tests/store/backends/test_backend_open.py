"""From addresses to backends."""

import subprocess
import sys
from pathlib import Path

import pytest

from weightvault.store.backends.local import LocalBackend
from weightvault.store.backends.memory import MemoryBackend
from weightvault.store.backends.open import open_backend
from weightvault.store.backends.s3 import S3Backend


def root_of(url: str) -> Path:
    backend = open_backend(url)
    assert isinstance(backend, LocalBackend)
    return backend.root


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert root_of(str(tmp_path / "a")) == tmp_path / "a"
    assert root_of("a/b") == tmp_path / "a/b"
    assert root_of("~/vault") == tmp_path / "vault"
    assert root_of("a:b") == tmp_path / "a:b"
    assert root_of(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert root_of(f"file://localhost{tmp_path}") == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_memory_is_new_every_time() -> None:
    first, second = open_backend("memory://"), open_backend("memory://")
    assert isinstance(first, MemoryBackend)
    first.put("a", b"x")
    assert not second.exists("a")


def test_s3_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    backend = open_backend(
        "s3://bucket/some/prefix/?endpoint=http://127.0.0.1:9000&region=eu-west-1"
        "&checksums=when_required&addressing=virtual"
    )
    assert isinstance(backend, S3Backend)
    assert (backend.bucket, backend.prefix) == ("bucket", "some/prefix/")
    meta = backend._client.meta
    assert (meta.endpoint_url, meta.region_name) == ("http://127.0.0.1:9000", "eu-west-1")
    assert meta.config.request_checksum_calculation == "when_required"
    assert meta.config.s3 == {"addressing_style": "virtual"}


def test_s3_takes_the_rest_from_boto3s_own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9001")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    backend = open_backend("s3://bucket")
    assert isinstance(backend, S3Backend)
    assert backend.prefix == ""
    meta = backend._client.meta
    assert (meta.endpoint_url, meta.region_name) == ("http://127.0.0.1:9001", "eu-west-2")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "s3://bucket/prefix"),
        ("s3:/bucket", "s3://bucket/prefix"),
        ("s3:bucket", "s3://bucket/prefix"),
        ("file:/a", "file:///folder"),
        ("memory:", "memory://"),
        ("http://127.0.0.1:8000", "http:// addresses"),
        ("ftp://host/a", "ftp:// addresses"),
        ("s3://", "no bucket"),
        ("s3:///prefix", "no bucket"),
        ("s3://key:secret@bucket/prefix", "credentials"),
        ("s3://host:9000/bucket", "endpoint"),
        ("s3://bucket/a?endpont=x", "unknown S3 option 'endpont'"),
        ("s3://bucket/a?checksums=never", "when_required"),
        ("s3://bucket/a?addressing=never", "virtual"),
        ("s3://bucket/a?endpoint=nonsense", "nonsense"),
        ("s3://bucket/../a", "prefix"),
        ("file://host/a", "file:///folder"),
        ("file://", "file:///folder"),
        ("memory://name", "no name"),
    ],
)
def test_what_is_no_address_is_a_value_error_that_helps(
    url: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is checked below
        open_backend(url)
    assert hint in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_only_s3_loads_boto3(tmp_path: Path) -> None:
    script = (
        "import sys; from weightvault.store.backends.open import open_backend; open_backend('a');"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
