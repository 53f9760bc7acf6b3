/* The scripts of src/headrace/lanes, and what they keep. Tokens and rates are not here: what is counted is jobs at once. */

/* A job's permit says which admission that is, and for which delivery: it is stale when the job has been back since. */
byte permit[2];
bit stale[2];

/* P:slots: members are lane, number, id. Here: a bit for each number, and one that says whose it is. */
byte slots, of_second;
#define MOST 1
#define TAKEN(n) (slots & 1 << n)
#define JOB_OF(n) ((of_second & 1 << n) != 0)
#define ANY_NOWHERE (NOWHERE_TO_BE_SEEN(1) || NOWHERE_TO_BE_SEEN(2) || NOWHERE_TO_BE_SEEN(3) || NOWHERE_TO_BE_SEEN(4) \
  || NOWHERE_TO_BE_SEEN(5) || NOWHERE_TO_BE_SEEN(6))

/* With which permit a consumer runs its job, and which ends it has to tell of: a bit for each number. */
byte my_permit[2];
short words[2];

/* A new number: the lowest that stands nowhere, and is on its way nowhere. So what has passed tells no states apart. */
#define KNOWN(n) (permit[0] == n || permit[1] == n || (slots | my_permit[0] | my_permit[1] | words[0] | words[1]) & 1 << n)
#define NEW_NUMBER (!KNOWN(1) -> 1 : (!KNOWN(2) -> 2 : (!KNOWN(3) -> 3 : (!KNOWN(4) -> 4 : (!KNOWN(5) -> 5 : 6)))))

#define MAY_GO (!slots)          /* as many have a slot as the limit allows: one */
#define IN_LANE (place[0] == LIMITED || place[1] == LIMITED)
#define FIRST (place[0] == LIMITED -> 0 : 1)    /* by rank: the instant it was enqueued, whatever it has been through */

/* The invariant: a slot is for who is let out, or runs under its own claim. */
#define RUNS_IT(c, j) (slot[c] == RUNS && my_job[c] == j && my_token[c] == token[j])
#define IS_ADMITTED(j) (place[j] == LET_OUT || token[j] && (RUNS_IT(0, j) || RUNS_IT(1, j)))
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
  assert(!KNOWN(6));                                   /* a bound of the model: more numbers are needed */
  permit[j] = 0; permit[j] = NEW_NUMBER; stale[j] = 0;
  put(j, from, LET_OUT);
  slots = slots | 1 << permit[j];
  of_second = of_second | j << permit[j];
  printf("| … job %d is let out (number %d)\n", j, permit[j])
}

/* lib/turns.lua. */
inline take_turns() {
#if !defined(TURNS_IN_TWO) && !defined(OUT_IN_TWO)
  if
  :: MAY_GO && IN_LANE -> w = FIRST; let_out(w, LIMITED)
  :: else
  fi;
#endif
  check()
}

inline free(bits) { w = bits; slots = slots & ~w; of_second = of_second & ~w }

/* enqueue.lua. */
inline enqueue(j) {
  put(j, NOT_YET, LIMITED);
  printf("| enqueue: job %d waits in its lane\n", j);
  take_turns()
}

/* admit.lua: word of who has ended. */
inline admit(c) {
  printf("| admit: consumer %d tells what has ended\n", c + 1);
  free((MEANT(c, 1) -> 1 << 1 : 0) | (MEANT(c, 2) -> 1 << 2 : 0) | (MEANT(c, 3) -> 1 << 3 : 0)
    | (MEANT(c, 4) -> 1 << 4 : 0) | (MEANT(c, 5) -> 1 << 5 : 0) | (MEANT(c, 6) -> 1 << 6 : 0));
  take_turns()
}

/* check.lua: who is at no consumer, and does not wait to be claimed either, has no slot. */
inline look() {
  printf("| check: whose job is nowhere loses its slot\n");
  free((NOWHERE_TO_BE_SEEN(1) -> 1 << 1 : 0) | (NOWHERE_TO_BE_SEEN(2) -> 1 << 2 : 0) | (NOWHERE_TO_BE_SEEN(3) -> 1 << 3 : 0)
    | (NOWHERE_TO_BE_SEEN(4) -> 1 << 4 : 0) | (NOWHERE_TO_BE_SEEN(5) -> 1 << 5 : 0) | (NOWHERE_TO_BE_SEEN(6) -> 1 << 6 : 0));
  take_turns()
}

/* settle.lua, for done and for a retry; hold.lua, for a job that may not run yet. */
inline finish(j, t, how) {
  printf("| settle: job %d, %e (token %d; the current one is %d)\n", j, how, t, token[j]);
  if
  :: CURRENT(j, t, how) ->
    assert(token[j] == t);                             /* I4: only the current claim ends a job's run */
    if
    :: how == hold && permit[j] -> free(1 << permit[j])  /* that of a former delivery */
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
  stale[j] = stale[j] || how != done;
  put(j, PROCESSING, (how == done -> DONE : (how == hold -> AFTER_HOLD : PENDING)));
  end_claim(j)
}
