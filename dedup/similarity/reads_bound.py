"""How many frames the read of a chunk may take: the bound that planning keeps to.

A delta is read with the chain below it, so with at most so many frames as its level says, and its
own. A lower bound stores more and reads less (the trade of R2D2).
"""

from __future__ import annotations

from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.damage import get_setting, set_setting
from ..errors import InvalidInput
from ..model.inputs import CHAIN_LENGTH

LEAST_READS, MOST_READS = 2, CHAIN_LENGTH + 1
_MAX_READS = "max_reads"


def planned_length(catalogue: Catalogue, reads: int | None = None) -> int:
    """Returns the deltas that plans put in a chain at most: by the bound `reads`, or the one that
    the vault keeps to. Raises InvalidInput for one that is none of LEAST_READS to MOST_READS."""
    if reads is None:
        reads = int(get_setting(catalogue, _MAX_READS) or MOST_READS)
    if not LEAST_READS <= reads <= MOST_READS:
        raise InvalidInput(
            f"{reads} is no bound of frames that reading a chunk takes",
            f"choose {LEAST_READS} to {MOST_READS}",
        )
    return reads - 1


def keep_max_reads(catalogue: Catalogue, reads: int) -> None:
    """Lets all plans keep to a bound from now on. Raises InvalidInput as planned_length."""
    planned_length(catalogue, reads)
    set_setting(catalogue, _MAX_READS, str(reads))
