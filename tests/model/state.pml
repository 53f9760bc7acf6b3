/* What stands in Redis, what the consumers know, and what the invariants say about it. */

/* Two jobs. Each is in one place, as bytes: an id (0: it has none) and how often it was charged with a crash. */
#define PENDING 0
#define PROCESSING 1
#define DONE 2
#define DEAD 3
#define NOWHERE 4                /* only where a mechanism was removed */
byte place[2], by[2];
#define NONE 255
#define ID(bytes) ((bytes) & 7)
#define CRASHED(bytes) ((bytes) >> 3)
#define WITH_ID(bytes, id) (((bytes) & 248) | (id))
#define ONE_CRASH 8
#define MAX_CRASHES 2

/* P:claims and P:leases under a job's id: token, bytes, and whether the deadline is past. */
#define IDS 6
byte token[IDS], claimed[IDS], past[IDS];
#define SWEPT 1                  /* the token '-': a lease that the sweep gave */
#define TOKEN(c, number) (2 + 2 * (number) + (c))
#define OWNER(t) ((t) & 1)
#define BY(t, c) ((t) > SWEPT && OWNER(t) == (c))
#define RAN_OUT 1                /* nobody kept it */
#define TOO_SLOW 2               /* a fault: its holder lives, and did not extend it in time */

/* P:claims and P:leases under a digest and an ordinal, "~digest:n": the bytes, and whether it is past. */
byte numbered[2] = NONE;
bit numbered_past[2];

byte ids;                        /* the highest id in use: the next one is new */

#define AT(i, bytes) (place[i] == PROCESSING && by[i] == (bytes))
#define COPIES(bytes) (AT(0, bytes) + AT(1, bytes))
#define BY_ID(bytes) (ID(bytes) && token[ID(bytes)] && claimed[ID(bytes)] == (bytes))
#define NUMBERED(bytes) ((numbered[0] == (bytes)) + (numbered[1] == (bytes)))
#define LEASES(bytes) (BY_ID(bytes) + NUMBERED(bytes))
#define SURPLUS(bytes) (COPIES(bytes) - BY_ID(bytes) < NUMBERED(bytes))

/* Equal jobs that wait are alike, so it is always the first that goes first. */
#define WAITS(i) (place[i] == PENDING && (i == 0 || place[0] != PENDING || by[0] != by[1]))
#define ANY_WAITS (place[0] == PENDING || place[1] == PENDING)

/* The memory of the model, which no script can see: to which claim a job was granted; whether a plain LREM left
 * a lease without its item (an equal item takes it over as it is); whether a claim or an adoption arrived late, or was
 * overtaken by what else its consumer sent; whether the claim in a slot has settled a job. */
byte holder[2];
bit orphan, came_late, overtaken, spent[2];

#define HELD(i) (!holder[i] || (token[ID(by[i])] == holder[i] && claimed[ID(by[i])] == by[i]))
#define OVER(i) (place[i] == DONE || place[i] == DEAD)
#define NO_LEASE (!token[1] && !token[2] && !token[3] && !token[4] && !token[5] && numbered[0] == NONE)
#define ALL_OVER (OVER(0) && OVER(1) && NO_LEASE)

/* Asked after each script, of the bytes that it dealt with. */
inline check(bytes) {
  assert(HELD(0) && HELD(1));                          /* I2: whoever was granted a job has its lease */
  assert(LEASES(bytes) <= COPIES(bytes) || orphan)     /* I9: there are not more leases than items */
}

/* Two consumers, of one slot each: its state, and the job in it as it was moved; see consumer.pml. */
#define EMPTY 0
#define BROUGHT 1                /* the blocking move took a job; the answer is on its way */
#define MOVED 2                  /* waits to be adopted, or for the answer if it may not begin before */
#define GIVEN_UP 3               /* the claims hold it no more; whether the lease keeper has adopted it is looked at next */
#define RUNS 4
#define ENDED 5                  /* its outcome waits to be settled, or for the adoption's answer */
#define SETTLING 6               /* its outcome was sent, and may be in effect */
byte slot[2], my_bytes[2], my_id[2], my_token[2], my_number[2];
mtype outcome[2];
bit owned[2];                    /* Redis has said that the job is this consumer's */
bit overdue[2];                  /* a bare lease has passed since it was moved: somebody else may have it */
bit dead[2];

/* The lease keeper, a thread: what it has asked, and how far that is; see keeper.pml. */
#define RESTS 0
#define EXTENDS_IT 1             /* sent */
#define ADOPTS_IT 2              /* sent */
#define LOST_IT 3                /* answered: the lease is somebody else's */
#define HAS_IT 4                 /* answered: adopted, or perhaps */
#define LOOKS 5                  /* … and noted; is the job still held? */
#define TELLS 6                  /* the loop has been called, and has not come to it */
byte keeper[2], keeper_id[2], keeper_token[2], keeper_bytes[2];
byte kept[2];                    /* it has asked to adopt the job in the slot; 1: which may be in effect */
#define HAS_KEPT 1
#define HAS_ASKED 2
byte left_id[2], left_token[2];  /* a lease that came when its job was given up: to be given back */

/* The round trip: at most one is under way. Settle and claim travel together, but are two scripts. */
#define NO 0
#define CLAIMS 1                 /* the settle has reached Redis, the claim has not */
#define BACK 2                   /* the answers are on their way */
#define ADOPTS 3                 /* an adoption has been sent */
byte trip[2], gave[2] = NONE;    /* what the claim gave */
bit claims[2];                   /* whether there is a claim in it */
bit gave_late[2];                /* what the claim gave, bare, is overdue; see below */
mtype said[2];                   /* what adopt answered */

/* A claim's answer was lost: what stands under our name and is not in hand is released. */
bit doubt[2];
byte stray[2], stray_token[2];

/* At most one request that was given up and is still on its way. */
#define SETTLE_IT 1
#define ADOPT_IT 2
#define CLAIM_IT 3
byte late, late_id, late_token, late_bytes;
mtype late_outcome;

#ifdef CLAIM_IN_TWO
byte popped[2];                  /* by the first of two calls */
#define POPPED(c) popped[c]
#else
#define POPPED(c) false
#endif

byte plain = NONE;               /* what the plain consumer works on */

/* What may yet happen. */
byte crashes = CRASHES, stalls = STALLS, losses = LOST, returns = RETURNS;
#ifdef KEEPER
byte hogs = HOGS;
#endif
#if CUTS
byte cuts = CUTS;
bit cut[2];                      /* a live consumer without a connection: it sends nothing */
#define CUT(c) cut[c]
#else
#define CUT(c) false
#endif
#define ASTRAY (orphan || came_late || overtaken)
#define UNTIMELY (stalls < STALLS || ASTRAY)

/* Who holds a job under this claim, alive. */
#define IN_HAND(c, id, t) (!dead[c] && slot[c] >= RUNS && my_id[c] == (id) && my_token[c] == (t))

/* A job that was let run before Redis has said whose it is. */
#define BEGUN(c) (slot[c] >= RUNS && !owned[c])

/* Who waits for a bare item of these bytes, alive: it is to be adopted, whether it runs or not. */
#define WAITS_FOR(c, item) (!dead[c] && my_bytes[c] == (item) && \
  (slot[c] == BROUGHT || (slot[c] == MOVED || BEGUN(c)) && token[my_id[c]] != my_token[c]))
#define WAITS_IN_TIME(c, item) (WAITS_FOR(c, item) && !overdue[c])
#define AWAITED_IN_TIME(item) (AWAITED(item) - (WAITS_FOR(0, item) && !ADOPTED_SOMEHOW(0)) \
  - (WAITS_FOR(1, item) && !ADOPTED_SOMEHOW(1)))
#define NOBODYS(item) (COPIES(item) - (BY_ID(item) && token[ID(item)] > SWEPT))
#define AWAITED(item) (WAITS_FOR(0, item) + WAITS_FOR(1, item) + (plain == (item)) \
  + (!ID(item) && gave[0] == (item)) + (!ID(item) && gave[1] == (item)))

/* Scratch, written and read inside one step: no part of the state. (Breadth-first search cannot leave it out.) */
#ifdef SHORTEST
#define scratch
#else
#define scratch hidden
#endif
scratch byte found, id_, item, n, owner, w, why;
mtype = { done, back, ok, lost, duplicate, there, gone };
scratch mtype answer;
