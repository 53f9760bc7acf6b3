/* The life of a job between claim and settle, as a Promela model: docs/model.md explains it, and
 * scripts/check-model checks it. Whatever may happen is a step of a process in consumer.pml or
 * world.pml; a step on the server is a whole script, from scripts.pml.
 *
 * -D EQUAL      the two jobs are the same bytes, without an id      (else: two jobs, ids 1 and 2)
 * -D TWINS      the two jobs are the same bytes, with id 1
 * -D MOVES      consumer 1 also has a blocking move, and a second slot for what it brings
 * -D PLAIN      there is a plain consumer: BRPOPLPUSH … LREM
 * -D CRASHES=n -D STALLS=n -D LOST=n -D FAILURES=n -D TAKEN=n      at most so many faults; default: none
 * -D LATE       what was sent on a connection that broke may still arrive
 *
 * Each name of the table in scripts/check-model takes one mechanism away. */

#ifndef CRASHES
#define CRASHES 0    /* a consumer dies, plain or not; it comes back, under a new name */
#endif
#ifndef STALLS
#define STALLS 0     /* a lease runs out although its holder lives: it was stopped, slow, cut off */
#endif
#ifndef LOST
#define LOST 0       /* a connection breaks before an answer is read */
#endif
#ifndef TAKEN
#define TAKEN 0      /* somebody takes an item out of processing by LREM, whosever it is */
#endif
#ifndef FAILURES
#define FAILURES 0   /* a run fails and is tried again, or is handed back */
#endif

#define NJ 2            /* jobs */
#define K 4             /* ids in use at one time */
#define MAX_CRASHES 2

/* A job's bytes are its id (0: bare), delivery and crashes. */
#define NONE 255
#define ID(x) ((x) & 7)
#define DELIVERY(x) (((x) >> 3) & 7)
#define CRASHED(x) ((x) >> 6)
#define WITH_ID(x, id) (((x) & 248) | (id))
#define ONE_DELIVERY 8
#define ONE_CRASH 72    /* and one delivery */

/* Places. */
#define PENDING 0
#define PROCESSING 1
#define DONE 2
#define DEAD 3
#define NOWHERE 4

/* Tokens: consumer, incarnation, number. 0: none; 1: the lease is one that a sweep gave. */
#define SWEPT 1
#define FIRST_TOKEN(c) (4 + 8 * (c) + 4 * inc[c])
#define OWNER(t) (((t) - 4) / 8)
#define SAME_NAME(t, u) ((t) / 4 == (u) / 4)

mtype = { done, retry, release, pending, processing, dead, ok, gone, duplicate };
#define WORD(where) (where == PENDING -> pending : (where == DONE -> done : dead))
#define ANSWER(a) (a == OK -> ok : (a == DUPLICATE -> duplicate : gone))

/* Redis. A job is `by[i]` at `place[i]`. `holder[i]` is the claim that it was last granted to: the
 * memory of this model, which no script sees. */
byte place[NJ], by[NJ], holder[NJ];

/* queue:claims and queue:leases, by id: token, bytes, and whether the deadline is past. */
byte tok[K + 1], cb[K + 1];
bit past[K + 1];
#define BY_ID(x) (ID(x) && LEASED_AS(x, ID(x)))
#define TOKENS(t) (tok[1] == (t) || tok[2] == (t) || tok[3] == (t) || tok[4] == (t))
#define LEASED_AS(x, name) (tok[name] && cb[name] == (x))

#define LIVE_AS(x, name) (LEASED_AS(x, name) && !past[name])

/* The same, by digest and ordinal: the bytes. */
byte nb[2] = NONE;
bit npast[2];

#define AT(i, x) (place[i] == PROCESSING && by[i] == (x))
/* Of equal jobs that wait, the first one goes first: they are alike. */
#define WAITS_AT(i) (place[i] == PENDING && (i == 0 || place[0] != PENDING || by[0] != by[1]))
#define COPIES(x) (AT(0, x) + AT(1, x))
#define NUMBERED(x) ((nb[0] == (x)) + (nb[1] == (x)))
#define LEASES(x) (NUMBERED(x) + BY_ID(x))
#define SURPLUS(x) (COPIES(x) - BY_ID(x) < NUMBERED(x))

/* Consumers 0 and 1: slot 2c holds what it claimed, 2c+1 what it moved. */
#define EMPTY 0
#define MOVED 1      /* waits for its adoption */
#define RUNS 2
#define ENDED 3      /* its outcome waits in the outbox */
byte st[4], sb[4], sid[4], tt[4];   /* state; bytes in processing; id; token */
mtype verb[4];

/* A round trip: what it carries, and what of that the server has yet to do. Bits 0, 1: settle slot
 * 0, 1; bits 2, 3: adopt it; bit 4: claim. Then the answers, which may not have been read. */
#define CLAIM 16
#define POPPED 32
byte sent[2], rest[2], number[2], gave[2] = NONE;
#define OK 1
#define GONE 2
#define DUPLICATE 3
byte answer[4];
byte brought = NONE;   /* by the blocking move */

byte doubt[2];         /* 1: a claim's answer was lost; 2: what it left is being released: */
byte xid[4], xt[4];
#define ALIVE 0
#define FALLEN 1       /* dead: its leases run out, or are ended once it is missed */
byte life[2];
bit inc[2];

/* A request on a connection that broke; it may still arrive. */
#define SETTLES 1
#define ADOPTS 2
byte lop[2], lid[2], lt[2], lb[2];
mtype lverb[2];

byte plain = NONE;     /* what the plain consumer works on */

byte crashes = CRASHES, stalls = STALLS, lost = LOST, failures = FAILURES, taken = TAKEN;

/* A plain LREM has left a lease behind, which an equal bare item takes over as it is. */
bit inherited;

/* Scratch: written and read inside one step, so no part of the state. (Breadth-first search, which
 * gives the shortest counterexamples, cannot leave it out.) */
#ifndef SHORTEST
#define byte_ hidden byte
#else
#define byte_ byte
#endif
byte_ a, f, g, given, job, k, n, s, w, x;

/* An id, or a token, is new when it stands nowhere any more. */
#define USES_ID(s, id) (sid[s] == (id) || ID(sb[s]) == (id) || xid[s] == (id))
#define ID_USED(id) (USES_ID(0, id) || USES_ID(1, id) || USES_ID(2, id) || USES_ID(3, id) \
  || tok[id] || ID(by[0]) == (id) || ID(by[1]) == (id) || ID(nb[0]) == (id) || ID(nb[1]) == (id) \
  || ID(gave[0]) == (id) || ID(gave[1]) == (id) || ID(brought) == (id) || ID(plain) == (id) \
  || lid[0] == (id) || lid[1] == (id) || ID(lb[0]) == (id) || ID(lb[1]) == (id))
#define TOKEN_USED(t) (tt[0] == (t) || tt[1] == (t) || tt[2] == (t) || tt[3] == (t) || xt[0] == (t) \
  || xt[1] == (t) || xt[2] == (t) || xt[3] == (t) || number[0] == (t) || number[1] == (t) \
  || lt[0] == (t) || lt[1] == (t) || holder[0] == (t) || holder[1] == (t) || TOKENS(t))

/* Whoever was granted a job has its lease; and there are no more leases than items. */
#define HELD(i) (!holder[i] || (tok[ID(by[i])] == holder[i] && cb[ID(by[i])] == by[i]))
#define ONE_LEASE(x) (inherited || LEASES(x) <= COPIES(x))

/* Who waits for, or works on, an item of these bytes that has no owner. */
#define WAITS(s, x) (st[s] == MOVED && sb[s] == (x) && tok[sid[s]] != tt[s])
#define AWAITED(x) (WAITS(0, x) + WAITS(1, x) + WAITS(2, x) + WAITS(3, x) + (brought == (x)) \
  + (plain == (x)) + (!ID(x) && gave[0] == (x)) + (!ID(x) && gave[1] == (x)))

#include "removals.pml"
#include "scripts.pml"
#include "consumer.pml"
#include "world.pml"

init {
  d_step {
#ifdef EQUAL
    skip
#else
    by[0] = 1;
#ifdef TWINS
    by[1] = 1
#else
    by[1] = 2
#endif
#endif
  }
  atomic {
    run Consumer(0); run Consumer(1); run Maintenance(); run Time();
#if STALLS || CRASHES || TAKEN
    run Faults();
#endif
#ifdef PLAIN
    run Plain();
#endif
#ifdef LATE
    run Network();
#endif
  }
}

#define OVER(i) (place[i] == DONE || place[i] == DEAD)
#define LIVE(x) (ID(x) && LIVE_AS(x, ID(x))) + (nb[0] == (x) && !npast[0]) + (nb[1] == (x) && !npast[1])
#define STRANDED(i) (place[i] == PROCESSING && LIVE(by[i]) < COPIES(by[i]))
#define NO_LEASE (!tok[1] && !tok[2] && !tok[3] && !tok[4] && nb[0] == NONE)

#ifdef LIVENESS
/* I10 and I11: every job ends, and leaves no lease behind. */
ltl ends { <> [] (OVER(0) && OVER(1) && NO_LEASE) }
/* I10: an item without a live lease does not stay so. */
ltl recovers { [] (STRANDED(0) -> <> !STRANDED(0)) }
#endif
