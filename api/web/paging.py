"""What all pages share: who signed in is known, errors become pages, lists are cut into pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from ...dedup.errors import InvalidInput, VaultError
from .rendering import render_error
from .session import admit

T = TypeVar("T")


class PageRoute(APIRoute):
    """A route that knows sessions, and whose failures are pages, for people, not JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the handler, its errors caught."""
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            try:
                await run_in_threadpool(admit, request)
                return await handle(request)
            except VaultError as error:
                return render_error(request, error)
            except RequestValidationError:
                wrong = InvalidInput("the address is not one of a page", "go back to the list")
                return render_error(request, wrong)

        return handle_page


@dataclass(frozen=True, slots=True)
class Paged(Generic[T]):
    """One page of a list: page `number` of `pages`, from 1; `total` items there are in all, of
    which the first here is number `first`, from 1."""

    items: Sequence[T]
    number: int
    pages: int
    total: int
    first: int

    @property
    def last(self) -> int:
        """The number of the last item here."""
        return self.first + len(self.items) - 1


def cut_page(items: Sequence[T], number: int, size: int) -> Paged[T]:
    """Returns page `number` of a list, the nearest one where there is no such page."""
    pages = max(1, -(-len(items) // size))
    number = min(max(1, number), pages)
    start = (number - 1) * size
    return Paged(items[start : start + size], number, pages, len(items), start + 1)
