"""Attack: another tenant's private content is learned from what one's own repos take."""

from __future__ import annotations

import random
from typing import Any

from hub_requests import HubRequests
from models import bf16_file, make_weights, tune
from product import require

SECRET = "Q7"
ALPHABET = "37KQ"


def notes(secret: str) -> bytes:
    """A text of which all but a few characters is known."""
    rng = random.Random(1)
    prose = " ".join(rng.choice(["loss", "rate", "of", "run", "fell", "to"]) for _ in range(400))
    return f"{prose}\nthe key is {secret}\n{prose[::-1]}\n".encode()


def commit(user: HubRequests, repo: str, files: dict[str, bytes]) -> None:
    """Makes a private repo of files."""
    require(user.create(repo).is_success, repo)
    made = user.commit(repo, files)
    require(made.is_success, made.text)


def told_of(user: HubRequests, repo: str) -> dict[str, Any]:
    """What its owner is told that a repo takes."""
    answer = user.web.get(f"/v1/repos/{repo}")
    require(answer.is_success, answer.text)
    return answer.json()["cost"]


def size_of(user: HubRequests, repo: str) -> int:
    """All figures of it together: whichever is smaller shows."""
    return sum(figure for figure in told_of(user, repo).values() if isinstance(figure, int))


def test_a_private_text_is_not_read_through_a_base(hub):
    """A card names the private repo as base; the guess that is stored smallest is right."""
    you, me = hub.user("you"), hub.user("me")
    commit(you, "you/diary", {"notes.md": notes(SECRET), "README.md": b"# private\n"})
    hub.wait_for_encoder()
    read = ""
    for place in range(len(SECRET)):
        for number, letter in enumerate(ALPHABET):
            guess = notes((read + letter).ljust(len(SECRET), "#")) + b"."
            card = b"---\nbase_model: you/diary\n---\n"
            commit(me, f"me/guess-{place}-{number}", {"notes.md": guess, "README.md": card})
        hub.wait_for_encoder()
        sizes = [size_of(me, f"me/guess-{place}-{number}") for number in range(len(ALPHABET))]
        best = [a for a, size in zip(ALPHABET, sizes, strict=True) if size == min(sizes)]
        read += best[0] if len(best) == 1 else "?"
    assert read != SECRET, f"the private text was read: {read}"
    assert read == "?" * len(SECRET), f"sizes differ: {read}"


def test_a_right_guess_looks_like_a_wrong_one(hub):
    """Somebody who has exactly this content is seen by what is shared, or what is exclusive."""
    you, me = hub.user("you"), hub.user("me")

    def content(pin: int) -> bytes:
        return f"The PIN is 1{pin}93.\n".encode() * 400

    commit(you, "you/pin", {"pin.txt": content(4)})
    for pin in range(6):
        commit(me, f"me/pin-{pin}", {"pin.txt": content(pin)})
    hub.wait_for_encoder()
    told = [told_of(me, f"me/pin-{pin}") | {"name": ""} for pin in range(6)]
    assert all(told[4] == each for each in told), f"the right guess is told from others: {told[3:]}"


def test_similar_weights_are_not_seen_by_their_size(hub):
    """A fine-tune of private weights takes less than other weights of the same shape."""
    you, me = hub.user("you"), hub.user("me")
    theirs = make_weights(7, {"w": (256, 128)})
    commit(you, "you/weights", {"model.safetensors": bf16_file(theirs)})
    hub.wait_for_encoder()
    mine = {"near": tune(theirs, 8, 1e-5), "far": make_weights(9, {"w": (256, 128)})}
    for name, weights in mine.items():
        card = b"---\nbase_model: you/weights\n---\n"
        commit(me, f"me/{name}", {"model.safetensors": bf16_file(weights), "README.md": card})
    hub.wait_for_encoder()
    # Not with what is shared: the base would be counted there.
    near, far = (told_of(me, f"me/{name}")["exclusive"] for name in mine)
    assert near > 0.95 * far, f"similar weights show: {near} bytes, others {far}"


def test_reading_is_not_deleting(hub):
    """Rights were once found in the end of the address, so this was taken for a question."""
    you, nobody = hub.user("you"), hub.server.client()
    require(you.create("you/frames", private=False).is_success, "no repo")
    answer = nobody.delete("/v1/repos/you/frames")
    left = you.web.get("/v1/repos/you/frames").status_code
    assert left == 200, f"an anonymous reader deleted a repo: {answer.status_code}"
    assert answer.status_code == 401
