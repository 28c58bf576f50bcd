"""Odd addresses, headers and forms are refused, and never a failure."""

from __future__ import annotations

import pytest
from hostile_requests import Target


@pytest.mark.parametrize("query", ["q=%00", "after=%00", "before=%00", "q=%ff", "order=%00"])
def test_texts_that_no_database_keeps_are_refused(query: str, shared: Target):
    assert shared.http.get(f"/?{query}").status_code < 500
    assert shared.http.get(f"/org/m/tensors?{query}").status_code < 500


@pytest.mark.parametrize("part", ["%00", "%ff", "%ed%a0%80", "a%00b", "%e2%80%ae", "%0a"])
def test_odd_parts_of_paths_are_not_found(part: str, shared: Target):
    for path in (
        *(f"/{part}/m", f"/org/{part}", f"/org/m/tree/{part}", f"/org/m/blob/main/{part}"),
        *(f"/api/models/{part}/m", f"/api/models/org/m/tree/main/{part}", f"/api/{part}"),
        *(f"/v1/repos/org/{part}", f"/v1/repos/org/m/files/{part}", f"/org/m/resolve/{part}/x"),
        *(f"/v1/repos/org/m/tensors/{part}", f"/{part}.git/info/lfs/objects/x", f"/v1/{part}"),
    ):
        answer = shared.http.get(path)
        assert 400 <= answer.status_code < 500, path


HEADERS = {
    "Range": ["bytes=" + ",".join(f"{i}-{i}" for i in range(4000)), "bytes=" + "9" * 30_000 + "-",
              "bytes=-", "bytes=5-1", "x=1-2"],
    "If-None-Match": ['"x",' * 4000, "*", "\x80"],
    "If-Range": ['"' + "a" * 30_000],
    "Cookie": ["weightvault-session=" + "a.b;" * 8000, "weightvault-session=" + "." * 30_000,
               "weightvault-session=a.b", "=;=;" * 8000],
    "Accept-Language": ["de;q=0.1," * 6000],
    "Accept": ["text/html;q=0." + "9" * 30_000, "," * 30_000],
    "Content-Type": ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 5000,
                     "application/json; charset=" + "x" * 5000, "x"],
    "Origin": ["http://[", "null", "http://" + "a" * 9999],
    "Host": ["[", "a:b:c", "127.0.0.1:99999999", "a" * 9999],
    "Authorization": ["Basic %%%", "Bearer", "Basic /////w==", "x" * 9999, "Basic " + "A" * 30_000],
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_odd_headers_are_no_failures(name: str, shared: Target):
    for value in HEADERS[name]:
        for method, path in (
            *(("GET", "/"), ("GET", "/org/m"), ("GET", "/org/m/resolve/main/README.md")),
            *(("GET", "/v1/repos/org/m/files/README.md"), ("GET", "/api/models/org/m")),
            *(("POST", "/api/repos/create"), ("POST", "/-/sign-in"), ("POST", "/v1/missing")),
            ("POST", "/org/m.git/info/lfs/objects/batch"),
        ):
            headers = {name.encode(): value.encode("latin-1")}
            body = b"" if method == "GET" else b"{}"
            answer = shared.http.request(method, path, headers=headers, content=body)
            assert answer.status_code < 500, (method, path, value[:50])
            assert len(answer.content) < 1 << 16


FORMS = [
    b"a&" * 4000,
    b"token=%00",
    b"%" * 8000,
    b"=" * 8000,
    b"token=" + b"\xff" * 8000,
    b"&" * 8000,
]


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_odd_forms_are_no_failures(form: bytes, shared: Target):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/-/sign-in", "/api/models/org/m/paths-info/main"):
        assert shared.http.post(path, content=form, headers=kind).status_code < 500
