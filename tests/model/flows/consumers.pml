/* Two consumers, a request that is late, and time. What a run begins with, and what its end asks of Redis, the models say:
 * BEGINS, EACH_WAY_TO_END, RUN_ENDS, and so on. */

#define CLAIM(c, j) :: step { slot[c] == EMPTY && CAN_CLAIM(j) -> claim(c, j); begin(c, j) }
#define LOSE_CLAIM(c, j) :: step { slot[c] == EMPTY && CAN_CLAIM(j) && losses -> losses--; claim(c, j); check(); \
  printf("| the answer is lost\n") }

proctype Consumer(byte c) {
end:
  do
  EACH_JOB(CLAIM, c)
  :: step { slot[c] == RUNS -> slot[c] = ENDED; outcome[c] = done; RUN_ENDS(c) }
#if RETURNS
  :: step { slot[c] == RUNS && returns -> returns--; slot[c] = ENDED; outcome[c] = back; RUN_ENDS(c) }
#endif
  EACH_WAY_TO_END(c)
  /* Settled or lost, it is over for us. */
  :: step { slot[c] == SETTLING -> let_go(c) }
#if STALLS
  /* The lease keeper hears that the lease is somebody else's: the run is told to end. */
  :: step { slot[c] == RUNS && token[my_job[c]] != my_token[c] -> GIVES_UP(c); let_go(c) }
#endif
#if LOST
  EACH_JOB(LOSE_CLAIM, c)
  :: step { slot[c] == SETTLING && losses -> losses--; slot[c] = ENDED;
      printf("| the answer to consumer %d is lost: it is going to ask again\n", c + 1) }
#ifdef LATE
  :: step { slot[c] == ENDED && losses && !late ->
      losses--; late = 1; late_job = my_job[c]; late_token = my_token[c]; late_outcome = outcome[c];
      printf("| consumer %d loses its connection; what it sent is still on its way\n", c + 1) }
#endif
#endif
#if CRASHES
  :: step { crashes && (slot[c] || UNTOLD(c)) -> die(c) }
#endif
  od
}

#ifdef LATE
proctype Network() {
end:
  do
  :: step { late -> printf("| late, from a connection that broke:\n"); finish(late_job, late_token, late_outcome);
      late = 0; late_job = 0; late_token = 0; late_outcome = 0 }
  od
}
#endif

/* A lease runs out at any time once nobody keeps it; as a fault, even while somebody does. Then it is reclaimed. */
#define RUN_OUT(c, j) :: step { token[j] && !past[j] && !KEPT(j) -> past[j] = RAN_OUT; \
  printf("| the lease of job %d runs out\n", j) }
#define STALL(c, j) :: step { stalls && KEPT(j) && !past[j] -> stalls--; past[j] = TOO_SLOW; \
  printf("| the lease of job %d runs out: its holder is too slow\n", j) }
#define RECLAIM(c, j) :: step { past[j] -> reclaim(j) }

proctype Time() {
end:
  do
  EACH_JOB(RUN_OUT, 0)
  EACH_JOB(RECLAIM, 0)
#if STALLS
  EACH_JOB(STALL, 0)
#endif
  od
}

#define OVER(j) (place[j] == DONE || place[j] == DEAD)
