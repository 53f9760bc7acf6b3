"""An application whose tasks take and give what JSON does not have; new processes find it, too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel

from headrace import CURRENT, Context, Headrace

app = Headrace(result_ttl=60)


@dataclass
class Order:
    """What a shop sends."""

    id: UUID
    total: Decimal


class Parcel(BaseModel):
    """What becomes of it."""

    order: UUID
    sent: datetime


@app.task
def ship(
    order: Order, at: datetime, *also: Order, ctx: Context = CURRENT, **late: timedelta
) -> Parcel:
    assert isinstance(ctx, Context)
    assert all(isinstance(one, Order) for one in also)
    return Parcel(order=order.id, sent=at + sum(late.values(), timedelta()))


@app.task
async def aship(order: Order, at: datetime, ctx: Context = CURRENT) -> dict[UUID, Parcel]:
    assert isinstance(ctx, Context)
    return {order.id: Parcel(order=order.id, sent=at)}


@app.task
def count(orders: list[Order], since: datetime | None = None) -> tuple[int, Decimal]:
    return len(orders), sum((one.total for one in orders), Decimal())


@app.task
def forget(order: Order) -> Parcel:
    return {"order": order.id}  # type: ignore[return-value]
