import asyncio, time, pytest
from headrace import Backoff, Context
from tests.support.consuming import Site
from tests.support.wait import await_until
from tests.integration.consumer.conftest import *
from tests.conftest import *

@pytest.mark.parametrize("n", range(25))
async def test_x(site: Site, n, caplog):
    caplog.set_level("DEBUG")
    runs=[]; bad=True
    @site.app.task(max_attempts=2, backoff=Backoff(base_s=0), result_ttl=60)
    async def fragile(what: str, ctx: Context) -> str:
        runs.append((ctx.attempt, ctx.delivery, time.monotonic()))
        if bad: raise OSError
        return what
    async with site.consumer() as running:
        job = await site.app.aenqueue("fragile", "vase")
        await site.died()
        for _ in range(2):
            site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
            t=time.monotonic()
            await await_until(lambda: len(runs) % 2 == 0 and site.redis.llen(site.k.dead))
            assert time.monotonic()-t<1, (site.state(), site.redis.client_list())
        bad=False
        site.redis.delete(site.k.result(job.id))
        site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
        t=time.monotonic()
        try:
            await await_until(lambda: len(runs)==7, 1)
            await await_until(lambda: site.redis.exists(site.k.result(job.id)), 1)
        except AssertionError:
            print(runs, site.state(), [(c["name"],c["cmd"],c["age"],c["idle"]) for c in site.redis.client_list()])
            c=running.consumer
            print(c._dry, c._hints, c._slots.wanted, c._slots.free, c._intake._idle.is_set(), c._intake._active["queue"].is_set(), [t for t in c._intake.tasks], c._slots.running, c._slots.ready, c._slots.waiting, c._jobs.adoptions, c._slots.concurrency)
            raise
