"""The one error body: for every kind of failure, out of the server and back into the client."""

import httpx
import pytest

from weightvault.api.cli.exits import MEANINGS, exit_status
from weightvault.api.client.http_vault import HttpVault
from weightvault.api.client.transport import Transport
from weightvault.api.errors import HTTP_CODES, http_status, parse_error
from weightvault.dedup.errors import InvalidInput, VaultError, error_classes
from weightvault.dedup.local_vault import LocalVault

STATUS = {
    "vault_error": 500,
    "invalid_input": 400,
    "invalid_file": 400,
    "invalid_name": 400,
    "invalid_manifest": 400,
    "invalid_frame": 400,
    "base_missing": 409,
    "too_large": 413,
    "too_expensive": 413,
    "range_not_satisfiable": 416,
    "not_found": 404,
    "repo_not_found": 404,
    "revision_not_found": 404,
    "entry_not_found": 404,
    "tensor_not_found": 404,
    "chunks_missing": 409,
    "conflict": 409,
    "unreachable": 503,
    "storage_full": 507,
    "access_refused": 403,
    "unauthorized": 401,
    "busy": 429,
    "overloaded": 503,
    "unsupported_type": 415,
    "stale_parent": 409,
    "invalid_upload": 400,
    "invalid_card": 400,
    "invalid_json": 400,
    "corrupt": 500,
    "quota_exceeded": 413,
    "rate_exceeded": 429,
    "unknown_host": 403,
    "journal_cut": 503,
    "upstream_failed": 502,
    "upstream_refused": 502,
    "unsafe_address": 502,
}


def error_of(response: httpx.Response) -> dict[str, str | None]:
    """The error of a response, its shape checked."""
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message", "hint"]
    assert response.headers["x-weightvault-version"]
    return body["error"]


def test_every_kind_has_its_status() -> None:
    assert {code: http_status(kind) for code, kind in error_classes().items()} == STATUS


def test_every_kind_has_an_exit_status_that_help_explains() -> None:
    assert {exit_status(kind("x")) for kind in error_classes().values()} <= MEANINGS.keys()


@pytest.mark.parametrize("code", STATUS)
def test_server_answers_with_code_message_and_hint(
    code: str, web: httpx.Client, local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error_classes()[code]("what failed", "what to do")

    monkeypatch.setattr(local, "list_repos_of", fail)
    response = web.get("/v1/repos")
    assert response.status_code == STATUS[code]
    assert error_of(response) == {"code": code, "message": "what failed", "hint": "what to do"}


def test_client_raises_the_class_the_server_raised(
    live: str, local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = HttpVault(live, transport=Transport(live, retry_delays=()))
    for kind in error_classes().values():

        def fail(*_: object, kind: type[VaultError] = kind) -> None:
            raise kind("what failed", "what to do")

        monkeypatch.setattr(local, "list_repos_of", fail)
        with pytest.raises(VaultError) as caught:
            vault.list_repos()
        assert type(caught.value) is kind
        assert (caught.value.message, caught.value.hint) == ("what failed", "what to do")
    vault.close()


def test_unknown_codes_become_the_kind_their_status_says() -> None:
    body = {"error": {"code": "of_tomorrow", "message": "m", "hint": None}}
    assert type(parse_error(body, 418)) is InvalidInput
    assert type(parse_error(body, 500)) is VaultError


@pytest.mark.parametrize("body", [None, [], "x", {}, {"error": "x"}, {"error": {"code": "x"}}])
def test_other_bodies_are_no_errors_of_ours(body: object) -> None:
    assert parse_error(body, 500) is None


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing", "unknown_endpoint"),
        ("GET", "/v1/nothing", "unknown_endpoint"),
        ("DELETE", "/v1/report", "method_not_allowed"),
        ("GET", "/v1/report?by=colour", "invalid_request"),
        ("GET", "/v1/report?top=0", "invalid_request"),
        ("GET", "/v1/report?since=yesterday", "invalid_request"),
        ("PUT", "/v1/packs/abc", "invalid_request"),
        ("POST", "/v1/missing", "invalid_request"),
    ],
)
def test_requests_that_reach_no_vault(web: httpx.Client, method: str, path: str, code: str) -> None:
    response = web.request(method, path)
    assert response.status_code == HTTP_CODES[code]
    error = error_of(response)
    assert error["code"] == code
    assert error["hint"]


def test_unexpected_failures_leak_nothing(
    web: httpx.Client, local: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(local, "list_repos_of", fail)
    response = web.get("/v1/repos")
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal"
    assert "secret" not in response.text
    assert "Traceback" not in response.text
