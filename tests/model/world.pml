/* What goes on around the consumers: maintenance, time, faults, a plain consumer, a late request. */

#define EACH_NAME(step) step(1) step(2) step(3) step(4)

/* maintenance.py: whoever leads. Each step is a script, so its own death loses nothing. */
#define BARE_AT(i) (place[i] == PROCESSING && LEASES(by[i]) < COPIES(by[i]))
#define RECLAIM(name) :: d_step { past[name] -> reclaim(name) }
#define FIND(name) :: d_step { past[name] && !found -> found = name }

proctype Maintenance() {
#ifdef NO_RECHECK
  byte found;   /* the one call finds what has expired, the next one takes it away */
#endif
end:
  do
#ifndef NO_SWEEP
  :: d_step {
      BARE_AT(0) || BARE_AT(1) ->
      if :: BARE_AT(0) -> g = by[0]; sweep(g) :: else fi;
      if :: BARE_AT(1) -> g = by[1]; sweep(g) :: else fi
    }
#endif
#ifdef NO_RECLAIM
#else
#ifdef NO_RECHECK
  EACH_NAME(FIND)
  :: d_step { found -> f = found; found = 0; reclaim(f) }
#else
  EACH_NAME(RECLAIM)
#endif
  :: d_step { npast[0] -> reclaim_numbered(0) }
  :: d_step { npast[1] -> reclaim_numbered(1) }
#endif
  od
}

/* Who lives extends, settles or adopts in time; so a lease runs out only when nobody cares for it. */
#define CARES(c, name) (life[c] != FALLEN && tok[name] >= FIRST_TOKEN(c) \
  && SAME_NAME(tok[name], FIRST_TOKEN(c)) && (doubt[c] || (sent[c] & CLAIM && number[c] == tok[name]) \
  || IN_HAND(2 * c, name) || IN_HAND(2 * c + 1, name)))
#define IN_HAND(s, name) (st[s] && sid[s] == name && tt[s] == tok[name])
#define GIVEN(x) ((ID(x) && tok[ID(x)] == SWEPT && LIVE_AS(x, ID(x))) \
  + (nb[0] == (x) && !npast[0]) + (nb[1] == (x) && !npast[1]))
#define FREE(name) (tok[name] && !past[name] && (tok[name] == SWEPT -> \
  GIVEN(cb[name]) > AWAITED(cb[name]) : !CARES(0, name) && !CARES(1, name)))
#define FREE_NUMBERED(o) (nb[o] != NONE && !npast[o] && GIVEN(nb[o]) > AWAITED(nb[o]))
#define RUN_OUT(name) \
  :: d_step { FREE(name) -> past[name] = 1; printf("| lease %d runs out: nobody cares for it\n", name) }

proctype Time() {
end:
  do
  EACH_NAME(RUN_OUT)
  :: d_step { FREE_NUMBERED(0) -> npast[0] = 1; printf("| the sweep's lease 1 runs out\n") }
  :: d_step { FREE_NUMBERED(1) -> npast[1] = 1; printf("| the sweep's lease 2 runs out\n") }
  od
}

inline fall(c) {
  crashes--;
  clear(2 * c); clear(2 * c + 1);
  end_trip(c);
  if :: c == 0 -> brought = NONE :: else fi;
  xid[2 * c] = 0; xt[2 * c] = 0; xid[2 * c + 1] = 0; xt[2 * c + 1] = 0;
  life[c] = FALLEN; doubt[c] = 0;
  printf("| consumer %d dies\n", c + 1)
}

#define MAY_FALL(c) (crashes && life[c] == ALIVE && !inc[c])

#define STALL(name) \
  :: d_step { stalls && tok[name] && !past[name] && !FREE(name) -> stalls--; past[name] = 1; \
    printf("| lease %d runs out: its holder was too slow\n", name) }

#if STALLS || CRASHES || TAKEN
proctype Faults() {
end:
  do
#if STALLS
  EACH_NAME(STALL)
  :: d_step { stalls && nb[0] != NONE && !npast[0] && !FREE_NUMBERED(0) -> stalls--; npast[0] = 1; printf("| the sweep's lease 1 runs out: too slow\n") }
  :: d_step { stalls && nb[1] != NONE && !npast[1] && !FREE_NUMBERED(1) -> stalls--; npast[1] = 1; printf("| the sweep's lease 2 runs out: too slow\n") }
#endif
#if TAKEN
  :: d_step { taken && place[0] == PROCESSING -> taken--; inherited = 1; w = 0; put(DONE, 0) }
  :: d_step { taken && place[1] == PROCESSING -> taken--; inherited = 1; w = 1; put(DONE, 0) }
#endif
#if CRASHES
  :: d_step { MAY_FALL(0) -> fall(0) }
  :: d_step { MAY_FALL(1) -> fall(1) }
#ifdef LATE
  :: d_step { MAY_FALL(0) && rest[0] && !lop[0] -> leave_behind(0); fall(0) }
  :: d_step { MAY_FALL(1) && rest[1] && !lop[1] -> leave_behind(1); fall(1) }
#endif
#ifdef PLAIN
  :: d_step { crashes && plain != NONE -> crashes--; plain = NONE; printf("| the plain consumer dies\n") }
#endif
#endif
  od
}

#endif

#ifdef PLAIN
proctype Plain() {
end:
  do
  :: d_step { plain == NONE && WAITS_AT(0) -> plain = by[0]; place[0] = PROCESSING; printf("| the plain consumer moves job 1\n") }
  :: d_step { plain == NONE && WAITS_AT(1) -> plain = by[1]; place[1] = PROCESSING; printf("| the plain consumer moves job 2\n") }
  :: d_step {
      plain != NONE ->
      printf("| the plain consumer has done what it moved\n");
      take(plain, 0);
      if :: w < NJ -> put(DONE, 0) :: else fi;
      if :: LEASES(plain) > COPIES(plain) -> inherited = 1 :: else fi;
      plain = NONE
    }
  od
}
#endif

#ifdef LATE
#define LATE_STORY(c) printf("| late, from a connection of consumer %d that broke:\n", c + 1)
#define ARRIVES(c) \
  :: d_step { lop[c] == SETTLES -> LATE_STORY(c); settle(lid[c], lt[c], lverb[c], lb[c]); forget_late(c) } \
  :: d_step { lop[c] == ADOPTS -> LATE_STORY(c); adopt(lb[c], lid[c], lt[c]); forget_late(c) } \
  :: d_step { lop[c] == CLAIM && WAITS_AT(0) -> LATE_STORY(c); claim(0, lt[c]); forget_late(c) } \
  :: d_step { lop[c] == CLAIM && WAITS_AT(1) -> LATE_STORY(c); claim(1, lt[c]); forget_late(c) } \
  :: d_step { lop[c] == CLAIM && place[0] != PENDING && place[1] != PENDING -> forget_late(c) }

proctype Network() {
end:
  do
  ARRIVES(0)
  ARRIVES(1)
  od
}
#endif

#ifdef LIVENESS
/* So that the model never stands still: spin finds no unfair end of a run that just stops. */
active proctype Idle() { do :: true -> true od }
#endif
