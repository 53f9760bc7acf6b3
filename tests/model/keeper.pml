/* The lease keeper (src/headrace/consumer/leases.py), a thread beside the loop, with a connection of its own. Between
 * what it asks, what Redis does, and what it makes of the answer, the loop may do anything: settle the job, give it up,
 * claim it again. With one slot there is one job to ask for. Without KEEPER all of that is one step. */

/* The slot is free again. */
inline let_go(c) {
  slot[c] = EMPTY; my_bytes[c] = 0; my_id[c] = 0; my_token[c] = 0; outcome[c] = 0;
  owned[c] = 0; overdue[c] = 0; kept[c] = 0; spent[c] = 0
}

inline keeper_rests(c) { keeper[c] = RESTS; keeper_id[c] = 0; keeper_token[c] = 0; keeper_bytes[c] = 0 }

/* A lease that nobody here holds is given back, by a release that travels with the next settle: one after the other,
 * here. One that would be refused is left out, for it changes nothing. */
#define CAN_LEAVE(c, t) (!left_token[c] || left_token[c] == (t))
inline leave(c, id, t) {
  if
  :: token[id] == t -> left_id[c] = id; left_token[c] = t
  :: else
  fi
}

inline ask(c, what) {
  keeper[c] = what; keeper_id[c] = my_id[c]; keeper_token[c] = my_token[c];
  printf("| keeper of consumer %d asks (id %d, token %d)\n", c + 1, my_id[c], my_token[c])
}

#define HOLDS(c) ((slot[c] == MOVED || slot[c] == RUNS || slot[c] == ENDED) && IS_ASKED(c))

/* So late, its adoption can take an equal item that somebody else has moved. */
#define OVERTAKEN(c) (overdue[c] || my_token[c] != keeper_token[c] || owned[c] || slot[c] == GIVEN_UP)

inline note_kept(c) { kept[c] = (my_token[c] == keeper_token[c] -> HAS_KEPT : kept[c]) }

proctype Keeper(byte c) {
end:
  do
#ifdef KEEPER
  /* It extends what is known as ours … */
  :: step { !dead[c] && !CUT(c) && keeper[c] == RESTS && slot[c] >= RUNS && owned[c] -> ask(c, EXTENDS_IT) }
  :: step {
      keeper[c] == EXTENDS_IT ->
      extend(keeper_id[c], keeper_token[c]);
      if
      :: answer == ok -> keeper_rests(c)
      :: else -> keeper[c] = LOST_IT
      fi
    }
  /* … and tells the loop what is lost, unless its outcome is on the way. */
  :: step {
      keeper[c] == LOST_IT ->
      if
      :: HOLDS(c) -> keeper[c] = TELLS
      :: else -> keeper_rests(c)
      fi
    }
#ifdef MOVES
#ifndef BEGUN_UNKEPT
  /* It adopts what has begun and keeps the loop to itself. */
  :: step {
      !dead[c] && !CUT(c) && keeper[c] == RESTS && BEGUN(c) && !kept[c] && hogs ->
      hogs--; ask(c, ADOPTS_IT); keeper_bytes[c] = my_bytes[c]; kept[c] = HAS_ASKED
    }
  :: step {
      keeper[c] == ADOPTS_IT ->
      overtaken = overtaken || OVERTAKEN(c);
      adopt(keeper_bytes[c], keeper_id[c], keeper_token[c]);
      if
      :: answer == ok -> keeper[c] = HAS_IT
      :: else -> keeper_rests(c)
      fi
    }
#if LOST
  :: step { keeper[c] == ADOPTS_IT && losses -> losses--; keeper[c] = HAS_IT; printf("| it gets no answer\n") }
#ifdef LATE
  :: step {
      keeper[c] == ADOPTS_IT && losses && !late ->
      losses--; late = ADOPT_IT; late_id = keeper_id[c]; late_token = keeper_token[c]; late_bytes = keeper_bytes[c];
      keeper[c] = HAS_IT;
      printf("| it gets no answer; what it sent is still on its way\n")
    }
#endif
#endif
  /* First it notes that it may have the lease, then it looks whether the job is still held. The loop gives a job up,
   * and then looks for that note. So one of the two gives the lease back. */
#ifdef KEEPER_LOOKS_FIRST
  :: step { keeper[c] == HAS_IT && HOLDS(c) -> keeper[c] = LOOKS }
  :: step { keeper[c] == HAS_IT && !HOLDS(c) && CAN_LEAVE(c, keeper_token[c]) -> leave(c, keeper_id[c], keeper_token[c]); keeper_rests(c) }
  :: step { keeper[c] == LOOKS -> note_kept(c); keeper_rests(c) }
#else
  :: step { keeper[c] == HAS_IT -> note_kept(c); keeper[c] = LOOKS }
  :: step {
      keeper[c] == LOOKS && CAN_LEAVE(c, keeper_token[c]) ->
      if
      :: !HOLDS(c) -> leave(c, keeper_id[c], keeper_token[c])
      :: else
      fi;
      keeper_rests(c)
    }
#endif
#endif
#endif
#else
  :: step { owned[c] && past[my_id[c]] && EXTENDS(my_id[c], my_token[c]) -> extend(my_id[c], my_token[c]) }
  :: step { slot[c] == RUNS && owned[c] && token[my_id[c]] != my_token[c] -> extend(my_id[c], my_token[c]); let_go(c) }
#ifdef MOVES
#ifndef BEGUN_UNKEPT
  :: step {
      BEGUN(c) && !kept[c] ->
      overtaken = overtaken || overdue[c];
      adopt(my_bytes[c], my_id[c], my_token[c]); kept[c] = (answer == ok -> HAS_KEPT : HAS_ASKED)
    }
#endif
#endif
#endif
  od
}
