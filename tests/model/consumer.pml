/* A consumer's event loop (src/headrace/consumer: batcher, dispatcher, listener) with one slot. Its round trips, its
 * blocking move and its run go on side by side, so each is a step that is taken whenever it can be. */

#define FREE_TO_SEND(c) (!dead[c] && !CUT(c) && trip[c] == NO && !doubt[c])
#define MAY_CLAIM(c) (trip[c] == CLAIMS || FREE_TO_SEND(c) && slot[c] == EMPTY)
#define STRAY(c, id) (BY(token[id], c) && !KNOWS(c, id))
#define JOB(c) WITH_ID(my_bytes[c], my_id[c])

inline end_trip(c) { trip[c] = NO; claims[c] = 0; gave[c] = NONE; gave_late[c] = 0; said[c] = 0 }

/* A job is in the slot: it runs if it has its lease, else it is adopted. */
inline arrive(c, job, as) {
  my_bytes[c] = job; my_id[c] = ID(job); my_token[c] = TOKEN(c, my_number[c]); slot[c] = as; owned[c] = (as == RUNS);
  if
  :: !ID(job) -> new_id(id_); my_id[c] = id_
  :: else
  fi
}

/* An adoption is sent, and the job begins: what becomes of it is told after the answer. One for which it is too late
 * waits for the answer. */
inline send_adoption(c) {
  trip[c] = ADOPTS;
  if
  :: slot[c] == MOVED && BEGINS(c) ->
    printf("| consumer %d begins, and sends the adoption (id %d, token %d)\n", c + 1, my_id[c], my_token[c]);
    slot[c] = RUNS;
    item = my_bytes[c];
    assert(ASTRAY || NOBODYS(item) >= 1 + WAITS_IN_TIME(1 - c, item))    /* I9: what begins is nobody else's */
  :: else
  fi
}

inline read_answers(c) {
  if
  :: said[c] == ok && slot[c] ->
    my_bytes[c] = JOB(c); owned[c] = 1; overdue[c] = 0; kept[c] = 0; slot[c] = (slot[c] == MOVED -> RUNS : slot[c])
  :: (said[c] == lost || said[c] == duplicate) && KEPT(c) -> kept[c] = HAS_ASKED    /* ask again */
  :: said[c] == lost && !KEPT(c) -> slot[c] = GIVEN_UP
  :: said[c] == duplicate && !KEPT(c) -> new_id(id_); my_id[c] = id_    /* and ask again */
  :: !said[c] && slot[c] == SETTLING -> let_go(c)      /* settled, or lost: it is over for us */
  :: else
  fi;
  if
  :: gave[c] != NONE -> arrive(c, gave[c], (ID(gave[c]) -> RUNS : MOVED)); overdue[c] = gave_late[c]
  :: else
  fi;
  end_trip(c)
}

inline lose_answers(c) {
  printf("| consumer %d loses its connection before it has read the answers\n", c + 1);
  losses--;
#ifdef CLAIM_RESENT
  if
  :: claims[c] -> gave[c] = NONE; gave_late[c] = 0; trip[c] = CLAIMS
  :: else -> end_trip(c)
  fi
#else
#ifndef STRAYS_STAY
  doubt[c] = claims[c];
#endif
  end_trip(c)
#endif
}

inline settle_mine(c) {
  settle(my_id[c], my_token[c], outcome[c]);
  slot[c] = SETTLING;
  assert(answer == ok || spent[c] || UNTIMELY)         /* I4: whoever kept its claim settles it */
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
  :: what == ADOPT_IT -> late_token = my_token[c]; end_trip(c)
  :: what == SETTLE_IT -> late_token = my_token[c]; slot[c] = SETTLING
  fi;
  printf("| consumer %d loses its connection; what it sent is still on its way\n", c + 1)
}
#endif

proctype Consumer(byte c) {
end:
  do
  /* The round trip: settle, with or without a claim; adopt; claim; then the answers. */
  :: step { FREE_TO_SEND(c) && TOLD(c) -> settle_mine(c); trip[c] = BACK }
  :: step { FREE_TO_SEND(c) && TOLD(c) -> settle_mine(c); claims[c] = 1; trip[c] = CLAIMS }
  :: step { FREE_TO_SEND(c) && (slot[c] == MOVED || BEGUN(c)) -> send_adoption(c) }
  :: step {
      trip[c] == ADOPTS ->
      adopt(my_bytes[c], my_id[c], my_token[c]); said[c] = answer; trip[c] = BACK;
      overtaken = overtaken || overdue[c] && answer == ok    /* it may be another's item, equal */
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
  :: step { FREE_TO_SEND(c) && TOLD(c) && losses && !late -> leave_behind(c, SETTLE_IT) }
  :: step { trip[c] == ADOPTS && losses && !late -> leave_behind(c, ADOPT_IT) }
  :: step { MAY_CLAIM(c) && losses && !late -> leave_behind(c, CLAIM_IT) }
#endif
#endif

  /* The run. */
  :: step { slot[c] == RUNS -> slot[c] = ENDED; outcome[c] = done }
#if RETURNS
  :: step { slot[c] == RUNS && returns -> returns--; slot[c] = ENDED; outcome[c] = back }
#endif

#ifdef KEEPER
  :: step { keeper[c] == TELLS -> slot[c] = (IS_ASKED(c) -> GIVEN_UP : slot[c]); keeper_rests(c) }
#endif
  /* The second half of giving a job up. */
  :: step {
      slot[c] == GIVEN_UP && CAN_LEAVE(c, my_token[c]) ->
      if
      :: KEPT(c) -> leave(c, my_id[c], my_token[c])
      :: else
      fi;
      let_go(c)
    }
  :: step {
      FREE_TO_SEND(c) && left_token[c] && my_token[c] != left_token[c] ->    /* after the job's own outcome */
      settle(left_id[c], left_token[c], back); left_id[c] = 0; left_token[c] = 0
    }

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
