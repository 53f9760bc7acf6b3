/* The life of a job between claim and settle, for spin. docs/model.md explains it; scripts/check-model runs it.
 * Read scripts.pml first: each step on Redis is one whole script. Then consumer.pml, keeper.pml, world.pml, presence.pml.
 *
 * A configuration is chosen with -D:
 *   JOB1=n JOB2=n   the two jobs' ids; 0: a bare job, without an id. Two with the same number are equal bytes
 *   MOVES           an idle consumer has a blocking move outstanding, too
 *   PLAIN           there is a plain consumer: BRPOPLPUSH, LREM
 *   LATE            a request on a connection that broke may still arrive
 *   KEEPER          a request of the lease keeper is sent, carried out, and heard of in steps
 *   PRESENCE        the leader looks who is connected, and ends the leases of who is gone
 *   HIDDEN          the second consumer's connections are never seen: a proxy is in between
 *   CRASHES=n STALLS=n LOST=n RETURNS=n HOGS=n CUTS=n    at most so many of each; see docs/model.md
 *   LIVENESS        check I10 as a formula, over infinite runs
 * and the removals (scripts/check-model lists them) each take one mechanism away. */

#ifndef JOB1
#define JOB1 1
#endif
#ifndef JOB2
#define JOB2 2
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef STALLS
#define STALLS 0
#endif
#ifndef LOST
#define LOST 0
#endif
#ifndef RETURNS
#define RETURNS 0
#endif
#ifndef HOGS
#define HOGS 1
#endif
#ifndef CUTS
#define CUTS 0
#endif

#ifndef step
#define step d_step             /* one indivisible step */
#endif

#include "state.pml"
#include "removals.pml"
#include "scripts.pml"
#include "keeper.pml"
#include "consumer.pml"
#include "world.pml"
#include "presence.pml"

init {
  atomic {
    by[0] = JOB1; by[1] = JOB2;
    ids = (JOB1 > JOB2 -> JOB1 : JOB2);
    run Consumer(0);
    run Consumer(1);
    run Keeper(0);
    run Keeper(1);
    run Leader();
    run Time();
#ifdef PRESENCE
    run Presence();
#endif
#ifdef PLAIN
    run Plain();
#endif
#if CRASHES || STALLS
    run Faults();
#endif
#ifdef LATE
    run Network();
#endif
#ifdef LIVENESS
    run Others();
#else
    run Quiet();
#endif
  }
}

#ifdef LIVENESS
/* I10, I11: whatever happened, in the end every job is over, and no lease is left. */
ltl drains { <> [] ALL_OVER }
#endif
