/* A consumer (src/headrace/consumer: batcher, listener, leases) with one slot. Its round trips, its blocking move, its
 * run and its lease keeper go on side by side, so each is a step that is taken whenever it can be. */

#define FREE_TO_SEND(c) (!dead[c] && trip[c] == NO && !doubt[c])
#define MAY_CLAIM(c) (trip[c] == CLAIMS || FREE_TO_SEND(c) && slot[c] == EMPTY)
#define STRAY(c, id) (BY(token[id], c) && !KNOWS(c, id))
#define OWN(c) (slot[c] == RUNS || slot[c] == ENDED)
#define JOB(c) WITH_ID(my_bytes[c], my_id[c])

/* The slot is free again. */
inline let_go(c) { slot[c] = EMPTY; my_bytes[c] = 0; my_id[c] = 0; my_token[c] = 0; outcome[c] = 0; kept[c] = 0 }

inline end_trip(c) { trip[c] = NO; claims[c] = 0; gave[c] = NONE; said[c] = 0 }

/* A job is in the slot: it runs if it has its lease, else it is adopted first. That it may begin while its adoption
 * travels changes nothing here: its outcome waits for the answer. */
inline arrive(c, job, as) {
  my_bytes[c] = job; my_id[c] = ID(job); my_token[c] = TOKEN(c, my_number[c]); slot[c] = as;
  if
  :: !ID(job) -> new_id(id_); my_id[c] = id_
  :: else
  fi
}

inline read_answers(c) {
  if
  :: slot[c] == ENDED -> let_go(c)                     /* settled, or lost: it is over for us */
  :: slot[c] == MOVED && said[c] == ok -> my_bytes[c] = JOB(c); slot[c] = RUNS
  :: slot[c] == MOVED && (said[c] == lost || said[c] == duplicate) && KEPT(c) -> kept[c] = 2    /* ask again */
  :: slot[c] == MOVED && said[c] == lost && !KEPT(c) -> let_go(c)
  :: slot[c] == MOVED && said[c] == duplicate && !KEPT(c) -> new_id(id_); my_id[c] = id_    /* and ask again */
  :: else
  fi;
  if
  :: gave[c] != NONE -> arrive(c, gave[c], (ID(gave[c]) -> RUNS : MOVED))
  :: else
  fi;
  end_trip(c)
}

inline lose_answers(c) {
  printf("| consumer %d loses its connection before it has read the answers\n", c + 1);
  losses--;
#ifdef CLAIM_RESENT
  if
  :: claims[c] -> gave[c] = NONE; trip[c] = CLAIMS
  :: else -> end_trip(c)
  fi
#else
#ifndef STRAYS_STAY
  doubt[c] = claims[c];
#endif
  end_trip(c)
#endif
}

inline new_number(c) {
  my_number[c]++;
  assert(my_number[c] < 12)                            /* a bound of the model: more tokens are needed */
}

inline claim_in_trip(c, i) {
  new_number(c);
  claim(i, TOKEN(c, my_number[c]));
  gave[c] = item; claims[c] = 1; trip[c] = BACK
}

#ifdef CLAIM_IN_TWO
inline pop(c, i) {
  place[i] = NOWHERE; popped[c] = i + 1; trip[c] = CLAIMS;
  printf("| RPOP: consumer %d gets job %d\n", c + 1, i + 1)
}
#endif

inline move(c, i) {
  place[i] = PROCESSING; slot[c] = BROUGHT; my_bytes[c] = by[i];
  printf("| BLMOVE: consumer %d gets job %d\n", c + 1, i + 1)
}

/* A claim under our name that is not in hand. */
inline find_stray(c) {
  id_ = 1;
  do
  :: id_ < IDS && !STRAY(c, id_) -> id_++
  :: else -> break
  od;
  if
  :: id_ < IDS -> stray[c] = id_; stray_token[c] = token[id_]
  :: else -> doubt[c] = 0
  fi
}

#ifdef LATE
/* A request that has not reached Redis when its consumer gives it up: it may yet. */
inline leave_behind(c, what) {
  losses--;
  late = what; late_id = my_id[c]; late_bytes = my_bytes[c]; late_outcome = outcome[c];
  if
  :: what == CLAIM_IT -> new_number(c); late_token = TOKEN(c, my_number[c]); doubt[c] = 1; end_trip(c)
  :: else -> late_token = my_token[c]
  fi;
  printf("| consumer %d loses its connection; what it sent is still on its way\n", c + 1)
}
#endif

proctype Consumer(byte c) {
end:
  do
  /* The round trip: settle, with or without a claim; adopt; claim; then the answers. */
  :: step { FREE_TO_SEND(c) && slot[c] == ENDED -> settle(my_id[c], my_token[c], outcome[c]); trip[c] = BACK }
  :: step {
      FREE_TO_SEND(c) && slot[c] == ENDED ->
      settle(my_id[c], my_token[c], outcome[c]); claims[c] = 1; trip[c] = CLAIMS
    }
  :: step {
      FREE_TO_SEND(c) && slot[c] == MOVED ->
      adopt(my_bytes[c], my_id[c], my_token[c]); said[c] = answer; trip[c] = BACK
    }
#ifdef CLAIM_IN_TWO
  :: step { MAY_CLAIM(c) && WAITS(0) && !popped[c] -> pop(c, 0) }
  :: step { MAY_CLAIM(c) && WAITS(1) && !popped[c] -> pop(c, 1) }
  :: step { popped[c] -> claim_in_trip(c, popped[c] - 1); popped[c] = 0 }
#else
  :: step { MAY_CLAIM(c) && WAITS(0) -> claim_in_trip(c, 0) }
  :: step { MAY_CLAIM(c) && WAITS(1) -> claim_in_trip(c, 1) }
#endif
  :: step { trip[c] == CLAIMS && !ANY_WAITS && !POPPED(c) -> trip[c] = BACK }
  :: step { trip[c] == BACK -> read_answers(c) }
#if LOST
  :: step { trip[c] && losses -> lose_answers(c) }
#ifdef LATE
  :: step { FREE_TO_SEND(c) && slot[c] == ENDED && losses && !late -> leave_behind(c, SETTLE_IT) }
  :: step { FREE_TO_SEND(c) && slot[c] == MOVED && losses && !late -> leave_behind(c, ADOPT_IT) }
  :: step { MAY_CLAIM(c) && losses && !late -> leave_behind(c, CLAIM_IT) }
#endif
#endif

  /* The run. */
  :: step { slot[c] == RUNS -> slot[c] = ENDED; outcome[c] = done }
#if RETURNS
  :: step { slot[c] == RUNS && returns -> returns--; slot[c] = ENDED; outcome[c] = back }
#endif

  /* The lease keeper. */
  :: step { OWN(c) && past[my_id[c]] && EXTENDS(my_id[c], my_token[c]) -> extend(my_id[c], my_token[c]) }
  :: step { slot[c] == RUNS && token[my_id[c]] != my_token[c] -> extend(my_id[c], my_token[c]); let_go(c) }
#ifdef MOVES
  /* It adopts, too, what has begun and keeps the loop to itself; what Redis answers, the loop hears later. */
  :: step {
      slot[c] == MOVED && !kept[c] ->
      adopt(my_bytes[c], my_id[c], my_token[c]); kept[c] = (answer == ok -> 1 : 2)
    }
#endif

#ifdef MOVES
  /* The blocking move. Its answer may be lost: then the sweep finds the item. */
  :: step { FREE_TO_SEND(c) && slot[c] == EMPTY && WAITS(0) -> move(c, 0) }
  :: step { FREE_TO_SEND(c) && slot[c] == EMPTY && WAITS(1) -> move(c, 1) }
  :: step { slot[c] == BROUGHT -> new_number(c); arrive(c, my_bytes[c], MOVED) }
#if LOST
  :: step { slot[c] == BROUGHT && losses -> losses--; let_go(c); printf("| the answer to the move is lost\n") }
#endif
#endif

#if LOST
  /* After a claim's lost answer. */
  :: step { doubt[c] && !stray[c] -> find_stray(c) }
  :: step { stray[c] -> settle(stray[c], stray_token[c], back); stray[c] = 0; stray_token[c] = 0 }
#endif
  od
}
