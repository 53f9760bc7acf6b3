/* What follows a job: what it hands on, and what waits for it in a workflow (src/headrace/workflows). docs/model.md
 * explains it. Read jobs.pml first: it has what a claim is. Then workflow.pml: the scripts; duty.pml: the leader.
 *
 * Without CHORD, job 0 enqueues job 2 through its context, and job 1 is the second link of its chain.
 *   CHORD           jobs 0 and 1 are the members of a chord, job 2 is its callback
 *   CONTINUE        the policy at a dead member: it has ended, as any other; without, what follows waits for a redrive
 *   FAILS=n REDRIVES=n LEADERS=n    runs that end in a dead letter; letters put back; changes of the leader */

#define JOBS 3
#define EACH_JOB(option, c) option(c, 0) option(c, 1) option(c, 2)
#define CAN_CLAIM(j) (place[j] == PENDING)
#define BEGINS(c, j)
#define RUN_ENDS(c)
#define GIVES_UP(c)
#define GONE(c)
#define UNTOLD(c) false
#define RETURNED(j) \
  if \
  :: place[j] == DEAD -> bury(j) \
  :: else \
  fi

#ifndef FAILS
#define FAILS 0
#endif
#ifndef REDRIVES
#define REDRIVES 0
#endif
#ifndef LEADERS
#define LEADERS 0
#endif

#include "handoff-removals.pml"
#include "jobs.pml"
#include "workflow.pml"
#include "consumers.pml"
#include "duty.pml"

#define FINAL(j) (place[j] == DONE || place[j] == DEAD && ENDS(dead))
#define ENQUEUED(j) (place[j] != NOT_YET)
#ifdef CHORD
#define MAY_FOLLOW (FINAL(0) && FINAL(1))
#define ALL_ENDED (MAY_FOLLOW && FINAL(2))
#else
#define MAY_FOLLOW (place[0] == DONE)
#define ALL_ENDED (FINAL(0) && FINAL(1))
#endif

/* Nothing can happen any more. As each step uses up a fault or brings a job nearer to its end, this is reached on
 * every way. */
proctype Quiet() {
  timeout ->
  assert(!ENQUEUED(0) + !ENQUEUED(1) + !ENQUEUED(2) + OVER(0) + OVER(1) + OVER(2) == JOBS);    /* I10: all ends */
  assert(ENQUEUED(2) == MAY_FOLLOW);                   /* H1: what follows is enqueued, if it may */
  assert(ENQUEUED(1) == (MEMBERS == 3 || FINAL(0)));   /* H1: so is the next link */
  assert(state == (ALL_ENDED -> over : failed))        /* H4: the workflow knows what became of its members */
}

init {
  atomic {
    place[0] = PENDING;
#ifdef CHORD
    place[1] = PENDING;
#endif
    run Consumer(0);
    run Consumer(1);
    run Time();
    run Duty();
#if REDRIVES
    run Operator();
#endif
#ifdef LATE
    run Network();
#endif
    run Quiet();
  }
}
