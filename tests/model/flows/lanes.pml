/* The scripts of src/headrace/lanes, and what they keep. Tokens and rates are not here: what is counted is jobs at once. */

/* A job's head says how often it was back, and its permit which admission that is, and for which delivery. */
byte delivery[JOBS], permit[JOBS], permit_for[JOBS];

/* P:slots: members are lane, number, id. Here: a bit for each number, and one that says whose it is. */
byte number;                     /* the last admission's */
short slots, of_second;
#define MOST 1
#define TAKEN(n) (slots & 1 << n)
#define JOB_OF(n) ((of_second & 1 << n) != 0)
#define NUMBERS 11
#define EACH_NUMBER(of) (of(1) || of(2) || of(3) || of(4) || of(5) || of(6) || of(7) || of(8) || of(9) || of(10))
#define ANY_NOWHERE EACH_NUMBER(NOWHERE_TO_BE_SEEN)

/* With which permit a consumer runs its job, and which ends it has to tell of: a bit for each number. */
short my_permit[2], words[2];

#define MAY_GO (!slots)          /* as many have a slot as the limit allows: one */
#define IN_LANE (place[0] == LIMITED || place[1] == LIMITED)
#define FIRST (place[0] == LIMITED -> 0 : 1)    /* by rank: the instant it was enqueued, whatever it has been through */

/* The invariant: a slot is for who is let out, or runs under its own claim. */
#define RUNS_IT(c, j) (slot[c] == RUNS && my_job[c] == j && my_token[c] == token[j])
#define IS_ADMITTED(j) (place[j] == LET_OUT || token[j] && (RUNS_IT(0, j) || RUNS_IT(1, j)))
scratch byte n;
#ifdef OUT_IN_TWO
byte on_its_way;                 /* 1 + the job that is in neither place */
#endif

/* Asked after each script, and when a run begins. */
inline check() {
  assert(IS_ADMITTED(0) + IS_ADMITTED(1) <= MOST);     /* L1: no more than the limit are let out, or run under their claim */
  assert(!(slots & slots - 1))                         /* L2: no more slots are given than there are */
}

/* lib/out.lua: job j leaves its lane for the priority set. */
inline let_out(j, from) {
  number++;
  assert(number < NUMBERS);                            /* a bound of the model: more numbers are needed */
  permit[j] = number; permit_for[j] = delivery[j];
  put(j, from, LET_OUT);
  slots = slots | 1 << number;
  of_second = of_second | j << number;
  printf("| … job %d is let out (number %d)\n", j, number)
}

/* lib/turns.lua. */
inline take_turns() {
#if !defined(TURNS_IN_TWO) && !defined(OUT_IN_TWO)
  do
  :: MAY_GO && IN_LANE -> w = FIRST; let_out(w, LIMITED)
  :: else -> break
  od;
#endif
  check()
}

inline free(n) { slots = slots & ~(1 << n); of_second = of_second & ~(1 << n) }

/* enqueue.lua. */
inline enqueue(j) {
  put(j, NOT_YET, LIMITED);
  printf("| enqueue: job %d waits in its lane\n", j);
  take_turns()
}

/* admit.lua: word of who has ended. */
inline admit(c) {
  printf("| admit: consumer %d tells what has ended\n", c + 1);
  n = 1;
  do
  :: n < NUMBERS ->
    if
    :: MEANT(c, n) -> free(n)
    :: else
    fi;
    n++
  :: else -> break
  od;
  take_turns()
}

/* check.lua: who is at no consumer, and does not wait to be claimed either, has no slot. */
inline look() {
  printf("| check: whose job is nowhere loses its slot\n");
  n = 1;
  do
  :: n < NUMBERS ->
    if
    :: NOWHERE_TO_BE_SEEN(n) -> free(n)
    :: else
    fi;
    n++
  :: else -> break
  od;
  take_turns()
}

/* settle.lua, for done and for a retry; hold.lua, for a job that may not run yet. */
inline finish(j, t, how) {
  printf("| settle: job %d, %e (token %d; the current one is %d)\n", j, how, t, token[j]);
  if
  :: CURRENT(j, t, how) ->
    assert(token[j] == t);                             /* I4: only the current claim ends a job's run */
    if
    :: how == hold && permit[j] -> free(permit[j])     /* that of a former delivery */
    :: else
    fi;
    give_way(j, how);
    answer = ok
  :: else -> answer = lost
  fi;
  if
  :: how == hold -> take_turns()
  :: else -> check()
  fi
}

inline give_way(j, how) {
  delivery[j] = delivery[j] + (how != done);
  put(j, PROCESSING, (how == done -> DONE : (how == hold -> AFTER_HOLD : PENDING)));
  end_claim(j)
}
