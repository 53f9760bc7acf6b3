/* Jobs and consumers, as far as hand-off and limits rest on them: claim, settle's fence, reclaim. What else can happen
 * between a claim and its end (blocking moves, equal jobs, adoptions) is the first model's: see ../protocol.pml. */

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
#ifndef MAX_CRASHES
#define MAX_CRASHES 2
#endif
#ifndef step
#define step d_step             /* one indivisible step */
#endif
#ifdef SHORTEST
#define scratch
#else
#define scratch hidden           /* written and read inside one step: no part of the state */
#endif

/* Each job has an id of its own, and is in one place. */
#define NOT_YET 0
#define PENDING 1
#define PROCESSING 2
#define DONE 3
#define DEAD 4
#define LIMITED 5                /* it waits in its lane */
#define LET_OUT 6                /* to the priority set, with a permit */
#define NOWHERE 7                /* only where a mechanism was removed */
byte place[3], crashed[3];

/* P:claims and P:leases under a job's id: the token, and whether the deadline is past. */
byte token[3], past[3];
#define RAN_OUT 1                /* nobody kept it */
#define TOO_SLOW 2               /* a fault: its holder lives, and did not extend it in time */

/* Two consumers, of one slot each. Who dies has a successor at once, of another name: its tokens are new. */
#define EMPTY 0
#define RUNS 1
#define ENDED 2                  /* its outcome waits to be sent */
#define HALF 3                   /* only where a mechanism was removed: the first of two calls is made */
#define SETTLING 4               /* it was carried out; the answer is on its way */
byte slot[2], my_job[2], my_token[2];
mtype = { done, back, dead, hold, ok, lost };
mtype outcome[2];
scratch mtype answer;
scratch byte w;

/* At most one request that was sent again is still on its way, on a connection that broke. */
bit late;
byte late_job, late_token;
mtype late_outcome;

byte crashes = CRASHES, stalls = STALLS, losses = LOST, returns = RETURNS;

/* A new token: the lowest number that stands nowhere, and is on its way nowhere. The past tells no states apart. */
#define USED(t) (token[0] == (t) || token[1] == (t) || token[2] == (t) || my_token[0] == (t) || my_token[1] == (t) \
  || late && late_token == (t))
#define TOKEN(c, number) (2 * (number) + (c))
#define NEW_TOKEN(c) (!USED(TOKEN(c, 1)) -> TOKEN(c, 1) : (!USED(TOKEN(c, 2)) -> TOKEN(c, 2) : \
  (!USED(TOKEN(c, 3)) -> TOKEN(c, 3) : (!USED(TOKEN(c, 4)) -> TOKEN(c, 4) : TOKEN(c, 5)))))

#define HOLDS(c, j) (slot[c] && my_job[c] == j && my_token[c] == token[j])
#define KEPT(j) (HOLDS(0, j) || HOLDS(1, j))

/* Writes a job's new place, and gives up the old one. */
inline put(j, from, to) {
  assert(place[j] == from);                            /* I2: what is written somewhere was taken elsewhere */
  place[j] = to
}

inline end_claim(j) { token[j] = 0; past[j] = 0 }

inline let_go(c) { slot[c] = EMPTY; my_job[c] = 0; my_token[c] = 0; outcome[c] = 0 }

/* claim.lua. */
inline claim(c, j) {
  put(j, place[j], PROCESSING);
  assert(!token[j]);                                   /* I9: a claim takes nobody's lease */
  assert(!USED(TOKEN(c, 5)));                          /* a bound of the model: more tokens are needed */
  token[j] = NEW_TOKEN(c);
  printf("| claim: consumer %d gets job %d (token %d)\n", c + 1, j, token[j])
}

/* Its answer has arrived. */
inline begin(c, j) {
  slot[c] = RUNS; my_job[c] = j; my_token[c] = token[j];
  BEGINS(c, j);
  check()
}

/* reclaim.lua, for one lease. */
inline reclaim(j) {
  assert(past[j] == TOO_SLOW || !KEPT(j));             /* I9: a live holder keeps it */
  end_claim(j);
  crashed[j]++;
  put(j, PROCESSING, (crashed[j] < MAX_CRASHES -> PENDING : DEAD));
  printf("| reclaim: the lease of job %d is past; it is %e\n", j, (place[j] == DEAD -> dead : back));
  RETURNED(j);
  check()
}

inline die(c) {
  crashes--;
  let_go(c); GONE(c);
  printf("| consumer %d dies\n", c + 1)
}
