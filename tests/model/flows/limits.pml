/* A limit of one job at once, and two jobs in its lane (src/headrace/lanes). docs/model.md explains it.
 * Read jobs.pml first: it has what a claim is. Then lanes.pml: the scripts. */

#define JOBS 2
#define EACH_JOB(option, c) option(c, 0) option(c, 1)
#define CAN_CLAIM(j) (place[j] == PENDING || place[j] == LET_OUT)

/* A consumer looks at the permit when a job comes. It notes an end before Redis has heard of it. */
#define BEGINS(c, j) \
  if \
  :: PERMITTED(j) -> my_permit[c] = 1 << permit[j] \
  :: else -> slot[c] = ENDED; outcome[c] = hold \
  fi
#define RUN_ENDS(c) WORD(c); my_permit[c] = 0
#define GIVES_UP(c) my_permit[c] = 0
#define GONE(c) words[c] = 0; my_permit[c] = 0
#define UNTOLD(c) words[c]
#define RETURNED(j) stale[j] = 1

#include "limits-removals.pml"
#include "jobs.pml"
#include "lanes.pml"
#include "consumers.pml"

/* Somebody enqueues the two jobs. */
proctype Producer() {
end:
  do
  :: step { place[0] == NOT_YET -> enqueue(0) }
  :: step { place[1] == NOT_YET -> enqueue(1) }
  od
}

/* The leader's duty: one script, so that one who dies leaves nothing half done. */
proctype Duty() {
end:
  do
  :: step { ANY_NOWHERE || MAY_GO && IN_LANE -> look() }
  od
}

#ifdef TURNS_IN_TWO              /* each of two callers sees that there is room, and then lets a job out */
proctype Turns() {
  bit seen[2];
end:
  do
  :: step { MAY_GO && !seen[0] -> seen[0] = 1 }
  :: step { MAY_GO && !seen[1] -> seen[1] = 1 }
  :: step { seen[0] && IN_LANE -> w = FIRST; let_out(w, LIMITED); seen[0] = 0; check() }
  :: step { seen[1] && IN_LANE -> w = FIRST; let_out(w, LIMITED); seen[1] = 0; check() }
  od
}
#endif
#ifdef OUT_IN_TWO                /* who lets a job out takes it in one call, and puts it in the next */
proctype Turns() {
end:
  do
  :: step { MAY_GO && IN_LANE && !on_its_way -> on_its_way = 1 + FIRST; place[FIRST] = NOWHERE }
  :: step { on_its_way -> w = on_its_way - 1; let_out(w, NOWHERE); on_its_way = 0; check() }
  :: step { on_its_way && crashes -> crashes--; on_its_way = 0; printf("| who lets it out dies\n") }
  od
}
#endif

/* Nothing can happen any more. As each step uses up a fault or brings a job nearer to its end, this is reached on
 * every way. */
proctype Quiet() {
  timeout ->
  assert(place[0] != NOWHERE && place[1] != NOWHERE);  /* I1: nothing is lost */
  assert(OVER(0) && OVER(1));                          /* I10: in the end nobody waits, in a lane or elsewhere */
  assert(!slots)                                       /* L3: in the end every slot is free */
}

init {
  atomic {
    run Consumer(0);
    run Consumer(1);
    run Producer();
    run Time();
    run Duty();
#if defined(TURNS_IN_TWO) || defined(OUT_IN_TWO)
    run Turns();
#endif
#ifdef LATE
    run Network();
#endif
    run Quiet();
  }
}
