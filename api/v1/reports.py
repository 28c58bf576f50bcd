"""The endpoints that say where bytes go, and what a decision would change."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Query as Param

from ...dedup.local_vault import LocalVault
from ...dedup.maintenance import quotas
from ...dedup.maintenance.quotas import Quota
from ...dedup.maintenance.retention import find_rules
from ...dedup.model.report import Dimension, Query, to_json
from ..requests.access import needs, reads_everything, sees_own
from ..requests.callers import Caller, caller_of
from .documented import FAILURES
from .report_schemas import PredictionSchema, ReportSchema
from .routes import VaultParam
from .schemas import QuotaSchema, RetentionSchema, RulesSchema

router = APIRouter(
    prefix="/v1",
    tags=["reports"],
    responses=FAILURES,
)
_ALL = needs(reads_everything)


def quotas_seen(vault: LocalVault, caller: Caller) -> list[Quota]:
    """Returns the quotas that a caller is told of."""
    if caller.reads_all and caller.role is not None:
        return quotas.list_quotas(vault)
    found = (quotas.describe_quota(vault, namespace) for namespace in caller.namespaces)
    return [quota for quota in found if quota.limits.any()]


@router.get("/report", summary="Report where the bytes go", dependencies=_ALL)
def report(
    vault: VaultParam,
    by: Annotated[list[Dimension], Param(description="breakdowns")] = ["repo"],  # noqa: B006
    top: Annotated[int | None, Param(ge=1, description="largest rows only")] = None,
    since: Annotated[date | None, Param(description="day that growth begins with")] = None,
) -> ReportSchema:
    """Reports logical, unique and stored bytes, what each stage saved, who has which share, and
    how all of it grew."""
    found = vault.report(Query(tuple(by), top, since and since.isoformat()))
    return ReportSchema.model_validate(to_json(found))


@router.get("/quotas", summary="List quotas", dependencies=needs(sees_own))
def list_quotas(request: Request, vault: VaultParam) -> list[QuotaSchema]:
    """Lists the quotas of the namespaces of the caller's token, or of all if it reads all repos,
    with what of them is used."""
    return [QuotaSchema.model_validate(quota) for quota in quotas_seen(vault, caller_of(request))]


@router.get("/retention", summary="List rules of retention", dependencies=needs(sees_own))
def list_retention(request: Request, vault: VaultParam) -> list[RetentionSchema]:
    """Lists which commits the namespaces of the caller's token keep, or all namespaces if it reads
    all repos, as far as they have rules."""
    caller = caller_of(request)
    everything = caller.reads_all and caller.role is not None
    return [
        RetentionSchema(namespace=namespace, rules=RulesSchema.model_validate(rules))
        for namespace, rules in find_rules(vault).items()
        if everything or namespace in caller.namespaces
    ]


@router.get("/what-if/rm", summary="Predict a deletion", dependencies=_ALL)
def predict_removal(
    vault: VaultParam, repo: Annotated[list[str], Param(description="repos to delete")]
) -> PredictionSchema:
    """Says what deleting repos, and collections after all graces, would free: to the byte."""
    return PredictionSchema.model_validate(to_json(vault.predict_removal(repo)))
