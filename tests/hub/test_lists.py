"""Lists of repos by what cards and files say: right answers, or a clear refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hub_clients import VERSIONS, Hub, client_environment, find_python, run
from models import make_weights, write_model
from vaults import open_local

from weightvault.api.hub.reading import facts, lists
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.repo_facts import ALL_CHARACTERS

CARDS = {
    "me/big": "license: mit\nlibrary_name: transformers\npipeline_tag: text-generation\n"
    "tags: [chat, a b]\nlanguage: [en, fr]\ndatasets: lab/texts\nbase_model: lab/base\n"
    "base_model_relation: finetune\n",
    "me/small": "license: apache-2.0\ntags: [text-generation]\nlanguage: en\n",
    "you/other": "tags: chat\npipeline_tag: fill-mask\n",
    "me/bare": "",
}
SHAPES = {"me/big": {"a": (64, 64)}, "me/small": {"a": (8, 8)}, "you/other": {"a": (16, 16)}}
DATASET = "license: mit\ntask_categories: [question-answering]\nlanguage: en\ntags: [law]\n"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVault]:
    folder = tmp_path_factory.mktemp("lists")
    made = open_local(folder / "vault")
    for repo, card in CARDS.items():
        text = f"---\n{card}---\n# A model\n" if card else "# A model\n"
        if repo == "me/bare":
            write_text(folder / repo, text)
        else:
            write_model(folder / repo, make_weights(1, SHAPES[repo]), text)
        push(made, folder / repo, repo)
    write_text(folder / "data", f"---\n{DATASET}---\n")
    push(made, folder / "data", "datasets/me/law")
    yield made
    made.close()


def write_text(folder: Path, card: str) -> None:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(card)
    (folder / "config.json").write_text("{}")


@pytest.fixture
def web(vault: LocalVault) -> Iterator[TestClient]:
    with TestClient(create_app(vault, ServerSettings()), base_url="http://hub") as client:
        yield client


def ids(web: TestClient, query: str, kind: str = "models") -> list[str]:
    answer = web.get(f"/api/{kind}?{query}")
    assert answer.status_code == 200, answer.text
    return [line["id"] for line in answer.json()]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("filter=chat", ["me/big", "you/other"]),
        ("filter=chat&filter=en", ["me/big"]),
        ("filter=a+b", ["me/big"]),
        ("filter=license:mit", ["me/big"]),
        ("license=mit", ["me/big"]),
        ("filter=en&author=me", ["me/big", "me/small"]),
        ("language=fr", ["me/big"]),
        ("filter=text-generation", ["me/big", "me/small"]),
        # A tag of that text is no task.
        ("pipeline_tag=text-generation", ["me/big"]),
        ("pipeline_tag=fill-mask", ["you/other"]),
        ("library=transformers", ["me/big"]),
        ("library=safetensors", ["me/big", "me/small", "you/other"]),
        ("dataset=lab/texts", ["me/big"]),
        ("filter=dataset:lab/texts", ["me/big"]),
        ("filter=base_model:lab/base", ["me/big"]),
        ("filter=base_model:finetune:lab/base", ["me/big"]),
        ("filter=none", []),
        ("filter=Chat", []),
        ("num_parameters=min:65", ["me/big", "you/other"]),
        ("num_parameters=min:0.1K,max:1K", ["you/other"]),
        ("num_parameters=max:64", ["me/small"]),
        ("num_parameters=min:1B", []),
        ("gated=true", []),
        ("gated=false", ["me/bare", "me/big", "me/small", "you/other"]),
        ("inference=warm", []),
        ("search=b&search=ME", ["me/bare", "me/big"]),
        ("search=b&filter=chat", ["me/big"]),
        ("sort=createdAt", ["me/bare", "you/other", "me/small", "me/big"]),
        ("sort=createdAt&direction=1&filter=chat", ["me/big", "you/other"]),
        ("sort=lastModified&filter=chat", ["you/other", "me/big"]),
        ("sort=likes&limit=2", ["me/bare", "me/big"]),
    ],
)
def test_models_are_found_by_what_they_say(web: TestClient, query: str, found: list[str]):
    assert ids(web, query) == found


def test_datasets_are_found_alike(web: TestClient):
    for query in ("filter=language:en", "language=en", "filter=task_categories:question-answering"):
        assert ids(web, query, "datasets") == ["me/law"]
    assert ids(web, "filter=law&license=mit", "datasets") == ["me/law"]
    assert ids(web, "filter=fr", "datasets") == []


@pytest.mark.parametrize(
    "query",
    [
        *("sort=name", "other=x", "apps=vllm", "direction=2", "gated=maybe"),
        *("num_parameters=6B", "num_parameters=min:x", "num_parameters=min:1,other:2"),
        *("pipeline_tag=a&pipeline_tag=b", "expand=widgetData", "expand[]=none"),
        "&".join(f"filter={n}" for n in range(60)),
    ],
)
def test_what_no_list_can_tell_is_refused(web: TestClient, query: str):
    answer = web.get(f"/api/models?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("sort", ["createdAt", "lastModified", "likes"])
def test_pages_of_a_list_follow_each_other(web: TestClient, sort: str):
    every = ids(web, f"sort={sort}&filter=safetensors")
    found, url = [], f"/api/models?sort={sort}&filter=safetensors&limit=1"
    while url:
        answer = web.get(url)
        found += [line["id"] for line in answer.json()]
        url = answer.links.get("next", {}).get("url", "")
    assert found == every
    assert len(every) == 3


def test_lines_tell_what_is_asked_for(web: TestClient):
    (line,) = web.get("/api/models?search=big").json()
    assert line["pipeline_tag"] == "text-generation"
    assert line["library_name"] == "transformers"
    assert {"chat", "safetensors", "license:mit", "base_model:lab/base"} <= set(line["tags"])
    info = web.get("/api/models/me/big").json()
    assert info["tags"] == line["tags"]
    assert info["safetensors"] == {"parameters": {"BF16": 4096}, "total": 4096}
    (line,) = web.get("/api/models?search=big&expand[]=likes&expand=sha").json()
    assert line == {"_id": "me%2Fbig", "id": "me/big", "modelId": "me/big", "likes": 0} | {
        "sha": info["sha"]
    }
    (line,) = web.get("/api/models?search=big&full=true&cardData=true").json()
    assert line["cardData"] == info["cardData"]
    assert line["siblings"] == info["siblings"]


def test_a_repo_tells_what_is_asked_for(web: TestClient):
    asked = "/api/models/me/big/revision/main?expand=cardData&expand=downloadsAllTime"
    told = web.get(asked).json()
    assert set(told) == {"_id", "id", "modelId", "cardData", "downloadsAllTime"}
    assert web.get("/api/models/me/big?expand=nothing").status_code == 400
    assert web.get("/api/datasets/me/law?expand=pipeline_tag").status_code == 400


def test_a_list_knows_what_a_commit_changed(start_hub: Callable[..., Hub], tmp_path: Path):
    vault = start_hub().vault
    with TestClient(create_app(vault, ServerSettings()), base_url="http://hub") as web:
        write_text(tmp_path / "m", "---\ntags: [first]\n---\n")
        push(vault, tmp_path / "m", "me/m")
        assert ids(web, "filter=first") == ["me/m"]
        old = web.get("/api/models/me/m").json()["sha"]
        (tmp_path / "m" / "README.md").write_text("---\ntags: [second]\n---\n")
        push(vault, tmp_path / "m", "me/m")
        assert (ids(web, "filter=first"), ids(web, "filter=second")) == ([], ["me/m"])
        # Of other branches nothing is said, and the default one may go back.
        history = History(vault, IncomingFiles(vault))
        history.create_branch("me/m", "other", "main")
        history.create_branch("me/m", "main", old, overwrite=True)
        assert (ids(web, "filter=first"), ids(web, "filter=second")) == (["me/m"], [])
        vault.delete_repo("me/m")
        assert ids(web, "filter=first") == []


def test_nobody_has_others_repos_read_or_finds_them(vault: LocalVault, tmp_path: Path):
    made = open_local(tmp_path / "two")
    for repo in ("me/a", "you/b"):
        write_text(tmp_path / repo, "---\ntags: [x]\n---\n")
        push(made, tmp_path / repo, repo)
    token = create_token(made, "me", "read", "me").secret
    with TestClient(create_app(made, ServerSettings()), base_url="http://hub") as web:
        web.headers["Authorization"] = f"Bearer {token}"
        assert ids(web, "filter=x") == ["me/a"]
        assert ids(web, "sort=createdAt") == ["me/a"]
    described = made.catalogue
    assert [each.name for each in facts.list_undescribed(described, facts.Wanted(), 9)] == ["you/b"]
    made.close()


def test_a_list_waits_until_all_is_read(
    start_hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(facts, "_READ_AT_ONCE", 2)
    vault = start_hub().vault
    write_text(tmp_path / "m", "---\ntags: [x]\n---\n")
    for number in range(5):
        push(vault, tmp_path / "m", f"me/m{number}")
    with TestClient(create_app(vault, ServerSettings()), base_url="http://hub") as web:
        answers = [web.get("/api/models?filter=x&limit=1") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 200]
        assert answers[0].headers["retry-after"] == "1"
        assert len(ids(web, "filter=x")) == 5


def test_pages_of_long_lines_are_short(web: TestClient, monkeypatch: pytest.MonkeyPatch):
    """Cards and lists of files are as long as owners like: a page ends, and tells the next."""
    monkeypatch.setattr(lists, "_MOST_BYTES", 10)
    address, found = "/api/models?full=true&cardData=true", []
    while address:
        answer = web.get(address)
        (line,) = answer.json()
        found.append(line["id"])
        address = answer.links.get("next", {}).get("url")
    assert found == sorted(CARDS)


def test_what_takes_long_is_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facts, "_SECONDS", -1)
    monkeypatch.setattr(lists, "_SECONDS", -1)
    made = open_local(tmp_path / "vault")
    for number in range(3):
        write_text(tmp_path / str(number), f"---\ntags: [{'x' * 190}{number}, y]\n---\n")
        push(made, tmp_path / str(number), f"me/m{number}")
    with TestClient(create_app(made, ServerSettings()), base_url="http://hub") as web:
        answers = [web.get("/api/models?filter=y") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 200]
        assert [line["id"] for line in answers[-1].json()] == ["me/m0"]
        assert 'rel="next"' in answers[-1].headers["link"]
    made.close()


def test_labels_of_a_repo_take_little(tmp_path: Path):
    made = open_local(tmp_path / "vault")
    labels = ", ".join(f"{'x' * 150}{number}" for number in range(900))
    write_text(tmp_path / "m", f"---\ntags: [{labels}]\n---\n")
    push(made, tmp_path / "m", "me/m")
    with TestClient(create_app(made, ServerSettings()), base_url="http://hub") as web:
        (line,) = web.get("/api/models").json()
    kept = line["tags"]
    assert 8000 < sum(map(len, kept)) <= ALL_CHARACTERS
    assert kept[0] == "x" * 150 + "0"
    made.close()


@pytest.mark.parametrize("version", ["2.4", "0.36"])
def test_the_real_client_lists(start_hub: Callable[..., Hub], tmp_path: Path, version: str):
    hub = start_hub()
    for repo, card in CARDS.items():
        write_text(tmp_path / repo, f"---\n{card}---\n")
        push(hub.vault, tmp_path / repo, repo)
    write_text(tmp_path / "data", f"---\n{DATASET}---\n")
    push(hub.vault, tmp_path / "data", "datasets/me/law")
    environment = client_environment(tmp_path / "home", {"HF_ENDPOINT": hub.url})
    done = run(find_python(VERSIONS[version]), "list_client.py", env=environment)
    found = json.loads(done.stdout)
    assert found == {
        "filter": ["me/big", "you/other"],
        "both": ["me/big"],
        "task": ["me/big"],
        "trained": ["me/big"],
        "author": ["me/big", "me/small"],
        "gated": [],
        "parameters": [],
        "created": ["me/bare", "you/other", "me/small", "me/big"],
        "expand": [["me/big", "text-generation", None], ["you/other", "fill-mask", None]],
        "full": [["me/big", "mit", True], ["you/other", None, True]],
        "datasets": ["me/law"],
        "no_datasets": [],
        "refused": 400,
    }
