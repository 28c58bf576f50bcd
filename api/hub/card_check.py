"""What is wrong with the front matter of a card, and what it lacks: for whoever is about to upload
one. Source: the documentation of hubs, "Model cards" and "model-index"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TEXTS = ("tags", "datasets", "metrics")
_TEXT_OR_TEXTS = ("license", "language", "base_model")
_TEXT = ("library_name", "pipeline_tag", "license_name", "license_link", "pretty_name")
# Told of a card with thousands of faults.
_MOST_TOLD = 20


def find_errors(card: dict[str, Any]) -> list[str]:
    """Returns what of the metadata clients could not read, in words."""
    return [text for text, _ in zip(_find_errors(card), range(_MOST_TOLD), strict=False)]


def find_warnings(card: dict[str, Any]) -> list[str]:
    """Returns what others would look for in the metadata and not find."""
    if not card:
        return ["empty or missing yaml metadata in repo card"]
    return [] if "license" in card else ["no license: nobody knows what they may do with it"]


def _find_errors(card: dict[str, Any]) -> Iterator[str]:
    for name in _TEXTS:
        if name in card and not _are_texts(card[name]):
            yield f'"{name}" must be a list of texts'
    for name in _TEXT_OR_TEXTS:
        if name in card and not isinstance(card[name], str) and not _are_texts(card[name]):
            yield f'"{name}" must be a text or a list of texts'
    for name in _TEXT:
        if name in card and not isinstance(card[name], str):
            yield f'"{name}" must be a text'
    if card.get("model-index") is not None:
        yield from _judge_index(card["model-index"])


def _judge_index(index: Any) -> Iterator[str]:
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for at, model in enumerate(index):
        where = f"model-index[{at}]"
        if not isinstance(model, dict):
            yield f'"{where}" must be an object'
            continue
        if not isinstance(model.get("name"), str):
            yield f'"{where}.name" is required'
        if not isinstance(model.get("results"), list):
            yield f'"{where}.results" must be an array'
            continue
        for number, result in enumerate(model["results"]):
            yield from _judge_result(f"{where}.results[{number}]", result)


def _judge_result(where: str, result: Any) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f'"{where}" must be an object'
        return
    for name, fields in (("task", ("type",)), ("dataset", ("type", "name"))):
        found = result.get(name)
        for field in fields:
            if not isinstance(found, dict) or not isinstance(found.get(field), str):
                yield f'"{where}.{name}.{field}" is required'
    metrics = result.get("metrics")
    if not isinstance(metrics, list):
        yield f'"{where}.metrics" must be an array'
        return
    for at, metric in enumerate(metrics):
        if not isinstance(metric, dict) or not isinstance(metric.get("type"), str):
            yield f'"{where}.metrics[{at}].type" is required'
        elif metric.get("value") is None:
            yield f'"{where}.metrics[{at}].value" is required'


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
