/* A consumer: feed.py, in_hand.py, intake.py, leases.py, flows.disown. Its runs, its round trip, its blocking move and its lease keeper go on side by side. */

#define S0 (2 * c)
#define S1 (2 * c + 1)
#define OWNED(s) (st[s] >= RUNS)
#define JOB(s) WITH_ID(sb[s], sid[s])   /* its bytes as they have to stand in processing */
#define OUTBOX ((st[S0] == ENDED) + 2 * (st[S1] == ENDED) + 4 * (st[S0] == MOVED) + 8 * (st[S1] == MOVED))
#define SETTLING(s) (sent[c] & (1 << ((s) & 1)))
#define ADOPTING(s) (sent[c] & (4 << ((s) & 1)))
#define MINE(k) (tok[k] >= FIRST_TOKEN(c) && SAME_NAME(tok[k], FIRST_TOKEN(c)))
#define IS(s, k) (st[s] && sid[s] == (k) && tt[s] == tok[k])

#ifdef EXTEND_BY_ID
#define MAY_EXTEND(s) tok[sid[s]]
#else
#define MAY_EXTEND(s) (tok[sid[s]] == tt[s])
#endif
#define CAN_MOVE (c == 0 && life[c] == ALIVE && st[S1] == EMPTY && brought == NONE)

inline clear(s) { st[s] = EMPTY; sb[s] = 0; sid[s] = 0; tt[s] = 0; verb[s] = 0 }

inline fresh_token(c) {
  f = FIRST_TOKEN(c);
  do :: TOKEN_USED(f) -> f++ :: else -> break od;
  assert(f < FIRST_TOKEN(c) + 4)       /* a bound of the model */
}

/* A claim gave it: it has its lease, unless it is bare. */
inline arrive_claimed(c, bytes, t) {
  sb[S0] = bytes; tt[S0] = t;
  if
  :: ID(bytes) ->
    if
    :: OWNED(S1) && sid[S1] == ID(bytes) ->   /* what is in hand under this id is not ours any more */
      sid[S0] = ID(bytes); clear(S1)
    :: else -> sid[S0] = ID(bytes)
    fi;
    st[S0] = RUNS
  :: else -> fresh_id(); sid[S0] = f; st[S0] = MOVED
  fi
}

/* The blocking move brought it: whose it is, Redis does not know yet. */
inline arrive_moved(c) {
  if
  :: !ID(brought) || (st[S0] && sid[S0] == ID(brought) && !SETTLING(S0)) -> fresh_id()
  :: else -> f = ID(brought)
  fi;
  sid[S1] = f;
  fresh_token(c);
  sb[S1] = brought; tt[S1] = f; st[S1] = MOVED; brought = NONE
}

inline read_answer(s) {
  if
  :: SETTLING(s) -> clear(s)
  :: ADOPTING(s) && answer[s] == OK -> sb[s] = JOB(s); st[s] = RUNS
  :: ADOPTING(s) && answer[s] == GONE -> clear(s)
  :: ADOPTING(s) && answer[s] == DUPLICATE -> fresh_id(); sid[s] = f
  :: else
  fi;
  answer[s] = 0
}

inline end_trip(c) {
  sent[c] = 0; rest[c] = 0; number[c] = 0; gave[c] = NONE; answer[S0] = 0; answer[S1] = 0
}

/* What the server has not read yet may still reach it, when the consumer has given it up. */
inline leave_behind(c) {
  lop[c] = (rest[c] & 3 -> SETTLES : (rest[c] & 12 -> ADOPTS : CLAIM));
  if
  :: lop[c] == CLAIM -> lt[c] = number[c]
  :: else -> s = (rest[c] & 3 -> (rest[c] & 1 -> S0 : S1) : (rest[c] & 4 -> S0 : S1));
    lid[c] = sid[s]; lt[c] = tt[s]; lb[c] = (lop[c] == SETTLES -> JOB(s) : sb[s]); lverb[c] = verb[s]
  fi
}

inline forget_late(c) { lop[c] = 0; lid[c] = 0; lt[c] = 0; lb[c] = 0; lverb[c] = 0 }

inline lose_answer(c) {
  printf("| consumer %d loses its connection before it has read the answers\n", c + 1);
  lost--;
  if :: sent[c] & CLAIM -> doubt[c] = 1 :: else fi;
  end_trip(c)
}

inline find_leftovers(c) {
  printf("| consumer %d looks for what it was given and does not know of\n", c + 1);
  f = S0;
  k = 1;
  do
  :: k <= K && MINE(k) && !IS(S0, k) && !IS(S1, k) ->
    assert(f <= S1);                   /* a bound of the model */
    xid[f] = k; xt[f] = tok[k]; f++; k++
  :: k <= K && !(MINE(k) && !IS(S0, k) && !IS(S1, k)) -> k++
  :: else -> break
  od;
  doubt[c] = (f > S0 -> 2 : 0)
}

inline rise(c) {
  life[c] = ALIVE; assert(!inc[c]); inc[c] = 1
}

proctype Consumer(byte c) {
end:
  do
  /* The round trip: settle, adopt, claim; then the answers. */
  :: d_step { life[c] == ALIVE && !sent[c] && !doubt[c] && OUTBOX -> sent[c] = OUTBOX; rest[c] = sent[c] }
  :: d_step {
      life[c] == ALIVE && !sent[c] && !doubt[c] && (st[S0] == EMPTY || st[S0] == ENDED) &&
        (OUTBOX || place[0] == PENDING || place[1] == PENDING) ->
      fresh_token(c); number[c] = f; sent[c] = OUTBOX | CLAIM; rest[c] = sent[c]
    }
  :: d_step {
      rest[c] & 3 ->
      s = (rest[c] & 1 -> S0 : S1);
      settle(sid[s], tt[s], verb[s], JOB(s));
      rest[c] = rest[c] - (1 << (s & 1))
    }
  :: d_step {
      !(rest[c] & 3) && (rest[c] & 12) ->
      s = (rest[c] & 4 -> S0 : S1);
      adopt(sb[s], sid[s], tt[s]);
      answer[s] = a; rest[c] = rest[c] - (4 << (s & 1))
    }
#ifdef POP_FIRST
  :: d_step { rest[c] == CLAIM && WAITS_AT(0) -> place[0] = NOWHERE; rest[c] = POPPED }
  :: d_step { rest[c] == CLAIM && WAITS_AT(1) -> place[1] = NOWHERE; rest[c] = POPPED }
  :: d_step { rest[c] == POPPED && place[0] == NOWHERE -> claim(0, number[c]); gave[c] = g; rest[c] = 0 }
  :: d_step { rest[c] == POPPED && place[1] == NOWHERE -> claim(1, number[c]); gave[c] = g; rest[c] = 0 }
#else
  :: d_step { rest[c] == CLAIM && WAITS_AT(0) -> claim(0, number[c]); gave[c] = g; rest[c] = 0 }
  :: d_step { rest[c] == CLAIM && WAITS_AT(1) -> claim(1, number[c]); gave[c] = g; rest[c] = 0 }
#endif
  :: d_step { rest[c] == CLAIM && place[0] != PENDING && place[1] != PENDING -> rest[c] = 0 }
  :: d_step {
      sent[c] && !rest[c] ->
      printf("| consumer %d reads the answers\n", c + 1);
      read_answer(S0); read_answer(S1);
      if :: gave[c] != NONE -> arrive_claimed(c, gave[c], number[c]) :: else fi;
      end_trip(c)
    }
#if LOST
  :: d_step { sent[c] && lost -> lose_answer(c) }
#ifdef LATE
  :: d_step { rest[c] && lost && !lop[c] -> leave_behind(c); lose_answer(c) }
#endif
#endif
#if LOST
  /* After a claim's lost answer: what it holds and does not know of is released. */
  :: d_step { doubt[c] == 1 -> find_leftovers(c) }
  :: d_step {
      doubt[c] == 2 ->
      s = (xid[S0] -> S0 : S1);
      settle(xid[s], xt[s], release, cb[xid[s]]);
      xid[s] = 0; xt[s] = 0;
      if :: !xid[S0] && !xid[S1] -> doubt[c] = 0 :: else fi
    }
  :: d_step { doubt[c] == 2 && lost -> lost--; doubt[c] = 1; xid[S0] = 0; xt[S0] = 0; xid[S1] = 0; xt[S1] = 0 }
#endif
#if CRASHES
  :: d_step { life[c] == FALLEN -> rise(c) }
#endif

  /* Its runs. */
  :: d_step { st[S0] == RUNS -> st[S0] = ENDED; verb[S0] = done }
#if FAILURES
  :: d_step { st[S0] == RUNS && failures -> failures--; st[S0] = ENDED; verb[S0] = retry }
  :: d_step { st[S0] == RUNS && failures -> failures--; st[S0] = ENDED; verb[S0] = release }
#endif

  /* The lease keeper. */
  :: d_step { OWNED(S0) && past[sid[S0]] && MAY_EXTEND(S0) -> extend(sid[S0], tt[S0]) }
  :: d_step { st[S0] == RUNS && tok[sid[S0]] != tt[S0] -> clear(S0); printf("| consumer %d learns that a claim is lost\n", c + 1) }

#ifdef MOVES
  /* The second slot, and the blocking move that fills it. */
  :: d_step { st[S1] == RUNS -> st[S1] = ENDED; verb[S1] = done }
  :: d_step { OWNED(S1) && past[sid[S1]] && MAY_EXTEND(S1) -> extend(sid[S1], tt[S1]) }
  :: d_step { st[S1] == RUNS && tok[sid[S1]] != tt[S1] -> clear(S1); printf("| consumer %d learns that a claim is lost\n", c + 1) }
  :: d_step { CAN_MOVE && WAITS_AT(0) -> brought = by[0]; place[0] = PROCESSING; printf("| a blocking move gives job 1 to consumer 1\n") }
  :: d_step { CAN_MOVE && WAITS_AT(1) -> brought = by[1]; place[1] = PROCESSING; printf("| a blocking move gives job 2 to consumer 1\n") }
  :: d_step { c == 0 && brought != NONE -> arrive_moved(c) }
#if LOST
  :: d_step { c == 0 && brought != NONE && lost -> lost--; brought = NONE; printf("| the answer to the move is lost\n") }
#endif
#endif
  od
}
