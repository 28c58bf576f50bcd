"""Families of models: repos whose newest commits share bases, or chunks, or are computed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FamilyMember:
    """A repo in a family: raw and stored bytes of its chunks that the family shares, the mean
    share of sketch bits in which they differ from their centres, how many chunks are centres, and
    how many are computed; if most are, `source` is the repo that was first to have most of what
    they are computed from.
    """

    repo: str
    raw: int
    stored: int
    distance: float
    centres: int
    chunks: int
    computed: int = 0
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """Repos whose newest commits share bases, or chunks: `centre` is the one that holds most of
    the bases. `raw` and `stored` count each chunk once."""

    centre: str
    raw: int
    stored: int
    members: tuple[FamilyMember, ...]

    def place_members(self) -> dict[str, list[FamilyMember]]:
        """Returns the members that hang below each: copies below what they are computed from, all
        else below the centre."""
        copied = {member.repo for member in self.members if member.source is not None}
        below: dict[str, list[FamilyMember]] = {}
        names = {member.repo for member in self.members}
        for member in self.members:
            if member.repo == self.centre:
                continue
            # Of two that are each computed from the other in part, both hang below the centre.
            is_copy = member.source in names and member.source not in copied
            above = member.source if is_copy and member.source is not None else self.centre
            below.setdefault(above, []).append(member)
        return below
