/* What goes on around the consumers: maintenance, time, faults, a plain consumer, late requests. */

#define EACH_ID(option) option(1) option(2) option(3) option(4) option(5)

/* Maintenance: whoever leads. Each step is one script: a leader that dies leaves nothing half done. */
#define BARE(i, seen) (place[i] == PROCESSING && SWEPT_LEASES(by[i]) < (seen))
#define RECLAIM(id) :: step { past[id] -> reclaim(id) }
#define FIND(id) :: step { past[id] && !expired -> expired = id }
#define TAKE_AWAY(id) :: step { past[id] && taken == NONE -> item = claimed[id]; whose = token[id]; drop(id); \
  take(item, whose); place[w] = NOWHERE; holder[w] = 0; taken = w; printf("| reclaim takes job %d\n", w + 1) }

proctype Leader() {
#ifdef RECLAIM_UNCHECKED
  byte expired;                  /* one call finds what has expired, the next one takes it away */
#endif
#ifdef RECLAIM_IN_TWO
  byte taken = NONE, whose;      /* one call takes an item, the next one puts it back */
#endif
end:
  do
#ifndef NO_SWEEP
#ifdef SWEEP_TAKES
  :: step { BARE(0, 1) -> take(by[0], 0); printf("| sweep: a bare item is put back\n"); give_back(SWEPT, RAN_OUT) }
#else
  :: step { BARE(0, COPIES(by[0])) -> sweep(by[0], COPIES(by[0])) }
  :: step { BARE(1, COPIES(by[1])) -> sweep(by[1], COPIES(by[1])) }
  /* Of equal items with an id it counts those alone that it sees in one call. */
  :: step { BARE(0, 1) && ID(by[0]) && COPIES(by[0]) == 2 -> sweep(by[0], 1) }
#endif
#endif
#ifndef NO_RECLAIM
#ifdef RECLAIM_UNCHECKED
  EACH_ID(FIND)
  :: step { expired -> reclaim(expired); expired = 0 }
#else
#ifdef RECLAIM_IN_TWO
  EACH_ID(TAKE_AWAY)
  :: step { taken != NONE -> w = taken; give_back(whose, TOO_SLOW); taken = NONE }
  :: step { taken != NONE && crashes -> crashes--; taken = NONE; printf("| the leader dies\n") }
#else
  EACH_ID(RECLAIM)
#endif
#endif
  :: step { numbered_past[0] -> reclaim_numbered(0) }
  :: step { numbered_past[1] -> reclaim_numbered(1) }
#endif
  od
}

/* Time. A lease runs out some time after its last holder has gone, and not while somebody keeps it: that it takes
 * three missed extensions is what a lease's length is for. When that fails is a fault, TOO_SLOW. */
#ifdef NO_EXTEND
#define EXTENDED(c, id) false
#else
#define EXTENDED(c, id) (slot[c] && my_id[c] == id && my_token[c] == token[id])
#endif
#define KEEPS(c, id) (!dead[c] && BY(token[id], c) && (EXTENDED(c, id) || doubt[c] || stray[c] \
  || keeper[c] && keeper_id[c] == id && keeper_token[c] == token[id] \
  || left_id[c] == id && left_token[c] == token[id] \
  || claims[c] && TOKEN(c, my_number[c]) == token[id]))
#define GIVEN(item) ((ID(item) && token[ID(item)] == SWEPT && claimed[ID(item)] == (item) && !past[ID(item)]) \
  + (numbered[0] == (item) && !numbered_past[0]) + (numbered[1] == (item) && !numbered_past[1]))
#ifdef BARE_FOREVER
#define OUTLIVES(item) false
#else
#define OUTLIVES(item) (GIVEN(item) > AWAITED_IN_TIME(item))
#endif
#define LIVES(id) (token[id] && !past[id])
#define UNKEPT(id) (LIVES(id) && (token[id] == SWEPT -> OUTLIVES(claimed[id]) : !KEEPS(0, id) && !KEEPS(1, id)))
#define NUMBERED_LIVES(o) (numbered[o] != NONE && !numbered_past[o])
#define NUMBERED_UNKEPT(o) (NUMBERED_LIVES(o) && OUTLIVES(numbered[o]))

#define RUN_OUT(id) :: step { UNKEPT(id) -> past[id] = RAN_OUT; printf("| lease %d runs out\n", id) }

proctype Time() {
end:
  do
  EACH_ID(RUN_OUT)
  :: step { NUMBERED_UNKEPT(0) -> numbered_past[0] = 1; printf("| lease ~1 runs out\n") }
  :: step { NUMBERED_UNKEPT(1) -> numbered_past[1] = 1; printf("| lease ~2 runs out\n") }
  od
}

#if CRASHES || STALLS
/* A bare lease has passed, so it has for whoever waits for an item of these bytes: it was moved before. */
#define PASSES(item) overdue[0] = overdue[0] || WAITS_FOR(0, item); gave_late[0] = gave_late[0] || gave[0] == (item); \
  overdue[1] = overdue[1] || WAITS_FOR(1, item); gave_late[1] = gave_late[1] || gave[1] == (item)
#define STALL(id) :: step { stalls && LIVES(id) && !UNKEPT(id) -> stalls--; \
  if :: token[id] == SWEPT -> PASSES(claimed[id]) \
     :: else -> owner = OWNER(token[id]); overdue[owner] = overdue[owner] || slot[owner] && !owned[owner] \
  fi; \
  past[id] = TOO_SLOW; \
  printf("| lease %d runs out: its holder is too slow\n", id) }

inline die(c) {
  crashes--;
  dead[c] = 1;
  let_go(c); end_trip(c); keeper_rests(c);
  left_id[c] = 0; left_token[c] = 0;
#ifdef CLAIM_IN_TWO
  popped[c] = 0;
#endif
  doubt[c] = 0; stray[c] = 0; stray_token[c] = 0;
  printf("| consumer %d dies\n", c + 1)
}

/* At least one consumer stays. */
proctype Faults() {
end:
  do
#if STALLS
  EACH_ID(STALL)
  :: step { stalls && NUMBERED_LIVES(0) && !NUMBERED_UNKEPT(0) -> stalls--; PASSES(numbered[0]); numbered_past[0] = 1; \
    printf("| lease ~1 runs out: who moved its item is too slow\n") }
  :: step { stalls && NUMBERED_LIVES(1) && !NUMBERED_UNKEPT(1) -> stalls--; PASSES(numbered[1]); numbered_past[1] = 1; \
    printf("| lease ~2 runs out: who moved its item is too slow\n") }
#endif
#if CRASHES
  :: step { crashes && !dead[0] && !dead[1] -> die(0) }
  :: step { crashes && !dead[0] && !dead[1] -> die(1) }
#ifdef PLAIN
  :: step { crashes && plain != NONE -> crashes--; plain = NONE; printf("| the plain consumer dies\n") }
#endif
#endif
  od
}
#endif

#ifdef PLAIN
inline plain_move(i) {
  plain = by[i]; place[i] = PROCESSING;
  printf("| plain consumer: moves job %d\n", i + 1)
}

/* BRPOPLPUSH queue queue:processing; work; LREM queue:processing 1 JOB. */
proctype Plain() {
end:
  do
  :: step { plain == NONE && WAITS(0) -> plain_move(0) }
  :: step { plain == NONE && WAITS(1) -> plain_move(1) }
  :: step {
      plain != NONE ->
      item = plain;
      take(item, 0);
      if
      :: w < 2 -> put(DONE, 0)
      :: else -> skip                                  /* it was too slow */
      fi;
      orphan = orphan || LEASES(item) > COPIES(item);
      /* Too slow, it may have taken somebody else's item, equal. */
      overtaken = overtaken || stalls < STALLS && AWAITED(item) > 1;
      plain = NONE;
      printf("| plain consumer: LREM\n")
    }
  od
}
#endif

#ifdef LATE
inline forget_late() { late = 0; late_id = 0; late_token = 0; late_bytes = 0; late_outcome = 0 }

#define ARRIVES printf("| late, from a connection that broke:\n")
proctype Network() {
end:
  do
  :: step { late == SETTLE_IT -> ARRIVES; settle(late_id, late_token, late_outcome); forget_late() }
  :: step { late == ADOPT_IT -> ARRIVES; adopt(late_bytes, late_id, late_token); came_late = 1; forget_late() }
  :: step { late == CLAIM_IT && WAITS(0) -> ARRIVES; claim(0, late_token); came_late = 1; forget_late() }
  :: step { late == CLAIM_IT && WAITS(1) -> ARRIVES; claim(1, late_token); came_late = 1; forget_late() }
  :: step { late == CLAIM_IT && !ANY_WAITS -> forget_late() }
  od
}
#endif

#ifdef LIVENESS
/* Other things go on in the world: so every run is infinite, and it needs fairness that anything happens here. */
proctype Others() {
  do
  :: step { true -> skip }
  od
}
#else
/* I10, I11: nothing can happen any more. As each step uses up a fault or brings a job nearer to its end, this is
 * reached on every way. */
proctype Quiet() {
  timeout ->
  assert(place[0] != NOWHERE && place[1] != NOWHERE);  /* I1: nothing is lost */
  assert(ALL_OVER)                                     /* I10: in the end every job is over, and no lease is left */
}
#endif
