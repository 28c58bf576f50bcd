"""A server with pages for the tests of pages."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest
from live_server import serving
from sites import Site, fill_site
from vaults import open_local

from weightvault.api.server.app import create_app


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A family of three, a hostile one, and many small ones; nothing of it is changed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("WEIGHTVAULT_") and "TEST" not in n]:
            patch.delenv(name)
        root = tmp_path_factory.mktemp("site")
        vault = open_local(root / "vault")
        fill_site(vault, root)
        with serving(create_app(vault)) as url:
            yield Site(url, vault)
        vault.close()


@pytest.fixture
def web(site: Site) -> Iterator[httpx.Client]:
    """Plain HTTP to the site."""
    with httpx.Client(base_url=site.url, trust_env=False) as client:
        yield client
