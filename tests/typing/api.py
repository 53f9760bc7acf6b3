"""What type checkers see of the public API. Read by mypy; never run."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, assert_type

from headrace import CURRENT, Context, Headrace, Job, Progress, Retry, Run, Task, results_of

app = Headrace()


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task(max_attempts=5, retry_on=(ValueError, OSError), result_ttl=60)
async def fetch(url: str, *, ctx: Context | None = None) -> bytes:
    if ctx is not None and ctx.attempt > 3:
        raise Retry(in_=60)
    return url.encode()


@app.task
async def charge(order: int, ctx: Context = CURRENT) -> None:
    ctx.check()


@app.task(max_attempts=3)
def refund(order: int, ctx: Context = CURRENT, *, whole: bool = False) -> int:
    return ctx.attempt


@dataclass
class Order:
    id: int


@app.task(result_ttl=60)
def ship(order: Order, *, on: date | None = None) -> dict[date, Order]:
    return {on or date.max: order}


@app.every(30)
@app.task(result_ttl=60)
def beat() -> int:
    return 1


@app.cron("30 2 * * *", timezone="Europe/Berlin", missed="skip")
async def nightly() -> str:
    return "done"


assert_type(beat.enqueue(), Job[int])
assert_type(nightly.enqueue(), Job[str])
charge.every(60, args=(1,), name="charge-1")
charge.options(priority=5).cron("@daily", args=(2,), name="charge-2")
app.schedules.add("charge-3", charge.call(3), every=30)
app.cron("@daily", missed="never")  # type: ignore[arg-type]


assert_type(ship.enqueue(Order(1), on=date.max).result(), dict[date, Order])
ship.enqueue({"id": 1})  # type: ignore[arg-type]


@app.task(result_ttl=60)
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


@app.task(result_ttl=60)
async def words(count: int) -> AsyncIterator[str]:
    yield "a" * count


assert_type(numbers.enqueue(3), Job[Any])
assert_type(words.enqueue(3), Job[Any])
numbers.enqueue("3")  # type: ignore[arg-type]
assert_type(list(results_of([add.enqueue(1, 2)])), list[Job[int]])
assert_type(add.enqueue(1, 2).progress(), Progress | None)
assert_type(add.enqueue(1, 2).history(), list[Run])
assert_type(add.enqueue(1, 2).result(raises=(ValueError, OSError)), int)

assert_type(charge.enqueue(1), Job[None])
assert_type(charge.delay(1), Job[None])
assert_type(refund.options(delay=5).enqueue(1, whole=True), Job[int])
assert_type(refund(1), int)
charge.enqueue("1")  # type: ignore[arg-type]

assert_type(add(1, 2), int)
assert_type(add.enqueue(1, 2), Job[int])
assert_type(add.delay(1, b=2), Job[int])
assert_type(add.options(delay=5, priority=3, key="k").enqueue(1, 2), Job[int])
assert_type(add.enqueue(1, 2).result(timeout=5), int)
assert_type(fetch.enqueue("u"), Job[bytes])
assert_type(app.enqueue_many(add.call(i, 1) for i in range(3)), list[Job[Any]])

add.enqueue("1", 2)  # type: ignore[arg-type]
add.enqueue(1)  # type: ignore[call-arg]
add.options(prio=1)  # type: ignore[call-arg]


async def with_await() -> None:
    assert_type(await fetch("u"), bytes)
    assert_type(await add.aenqueue(1, 2), Job[int])
    assert_type(await (await fetch.aenqueue("u")).aresult(timeout=5), bytes)


def takes_a_task(task: Task[[int, int], int]) -> None:
    task.enqueue(1, 2)


takes_a_task(add)
