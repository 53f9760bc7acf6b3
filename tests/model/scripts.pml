/* What the scripts of src/headrace/scripts compare, take and write: each is one indivisible step.
 *
 * Equal items are alike. `take` is LREM: `w` becomes the item, NJ if there is none. It gives a caller
 * the copy that suits it best, so that an assertion fails only when no reading of the state is right. */

inline take(bytes, who) {
  w = (AT(0, bytes) && holder[0] == who -> 0 : (AT(1, bytes) && holder[1] == who -> 1 :
      (AT(0, bytes) && !holder[0] -> 0 : (AT(1, bytes) && !holder[1] -> 1 :
      (AT(0, bytes) -> 0 : (AT(1, bytes) -> 1 : NJ))))))
}

inline put(where, bytes) {
  assert(w < NJ);                 /* I2: what is written anywhere was taken from elsewhere */
  assert(DELIVERY(bytes) < 7);    /* a bound of the model */
  place[w] = where;
  by[w] = (where >= DONE -> 0 : bytes);
  holder[w] = 0;
  printf("|   job %d is %e\n", w + 1, WORD(where))
}

inline drop(name) { tok[name] = 0; cb[name] = 0; past[name] = 0 }

inline check(bytes) {
  assert(HELD(0) && HELD(1));     /* I2: whoever was granted a job has its lease */
  assert(ONE_LEASE(bytes))        /* I2, I9: there are not more leases than items */
}

inline fresh_id() {
  f = 1;
  do :: ID_USED(f) -> f++ :: else -> break od;
  assert(f <= K)                  /* a bound of the model */
}

/* claim.lua, for one job. */
inline claim(j, t) {
  g = by[j];
  if
  :: ID(g) ->
    k = ID(g);
#ifndef NO_RENAME
    if
    :: tok[k] -> fresh_id(); g = WITH_ID(g, f); k = f
    :: else
    fi;
#endif
    assert(!tok[k]);              /* I9: a claim takes the lease of no other */
    by[j] = g; holder[j] = t; tok[k] = t; cb[k] = g; past[k] = 0
  :: else                         /* bare: it gets its lease when it is adopted */
  fi;
  place[j] = PROCESSING;
  check(g);
  printf("| claim: consumer %d gets job %d (id %d, token %d)\n", OWNER(t) + 1, j + 1, ID(g), t)
}

/* lib/numbered.lua: of the leases of equal bare items the last one goes. */
inline drop_numbered(bytes) {
  n = (nb[1] == bytes -> 1 : 0);
  nb[0] = nb[1 - n]; npast[0] = npast[1 - n];
  nb[1] = NONE; npast[1] = 0
}

inline forget_given(bytes) {
  if
  :: SURPLUS(bytes) && NUMBERED(bytes) -> drop_numbered(bytes)
  :: SURPLUS(bytes) && !NUMBERED(bytes) && tok[ID(bytes)] == SWEPT -> drop(ID(bytes))
  :: else
  fi
}

/* adopt.lua. `bytes`: as its caller moved it. */
inline adopt(bytes, id, t) {
  k = id;
  if
  :: tok[k] != t && FREE_COPIES(bytes) <= 0 -> a = GONE
  :: tok[k] != t && FREE_COPIES(bytes) > 0 && tok[k] && !TAKES_OVER(k, bytes) -> a = DUPLICATE
  :: else ->
    given = !tok[k];
    job = (tok[k] == t -> cb[k] : bytes);
    take(job, t);
    if
    :: w == NJ -> a = GONE
    :: else ->
      assert(!holder[w] || holder[w] == t);   /* I9: an adoption takes nobody's claim */
      by[w] = WITH_ID(bytes, id); holder[w] = t; tok[k] = t; cb[k] = by[w]; past[k] = 0;
#ifndef KEEP_GIVEN
      if
      :: given -> forget_given(bytes)
      :: else
      fi;
#endif
      check(bytes); check(cb[k]);
      a = OK
    fi
  fi;
  printf("| adopt by consumer %d (id %d, token %d): %e\n", OWNER(t) + 1, id, t, ANSWER(a))
}

/* settle.lua, for one outcome. `mine`: the job's bytes, as its consumer knows them. */
inline settle(id, t, how, mine) {
  k = id;
  printf("| settle by consumer %d: %e (id %d, token %d; the current one is %d)\n",
    OWNER(t) + 1, how, id, t, tok[k]);
  if
  :: CURRENT(k, t, mine) ->
    job = SETTLED(k, mine);
    take(job, t);
    assert(w == NJ || holder[w] == t);        /* I4: only the current claim settles */
    if
    :: FOUND(how) ->
      given = (how == done -> DONE : PENDING);
      x = (how == retry -> mine : job) + ONE_DELIVERY;
      put(given, x)
    :: else                                   /* lost: a plain LREM took it */
    fi;
#ifndef KEEP_LEASE
    drop(k);
#endif
    check(job)
  :: else                                     /* lost */
  fi
}

/* extend.lua, for one lease: moves its deadline. That it also ends the leases of a consumer that is gone
 * is here a lease that runs out. */
inline extend(id, t) {
  k = id;
  printf("| extend by consumer %d (id %d, token %d; the current one is %d)\n",
    OWNER(t) + 1, id, t, tok[k]);
  if
  :: EXTENDS(k, t) ->
    assert(tok[k] == t);                      /* I4: only the current claim extends */
    past[k] = 0
  :: else                                     /* lost */
  fi
}

/* reclaim.lua: item `w`, the lease of which is past, is runnable again, or dead. */
inline give_back(t) {
  assert(!holder[w] || holder[w] == t);       /* I9: nobody's live claim is taken away */
  x = by[w];
  if
  :: !ID(x) -> put(PENDING, x)
  :: else -> put(AFTER_CRASH(x), x + ONE_CRASH)
  fi;
  check(x);
  assert(place[w] == DEAD || CRASHED(by[w]) < MAX_CRASHES);   /* I6: crashes are bounded */
  assert(t != SWEPT || stalls < STALLS || inherited || COPIES(x) >= AWAITED(x))   /* I9: a bare item has its time */
}

inline reclaim(name) {
  printf("| reclaim: lease %d\n", name);
  assert(past[name]);                         /* I9: a lease is taken away only when it is past */
  job = cb[name]; n = tok[name];
  drop(name);
  take(job, n);
  if
  :: w < NJ -> give_back(n)
#ifdef REVIVE
  :: else -> put(PENDING, job)
#else
  :: else                                     /* a plain LREM took it */
#endif
  fi
}

inline reclaim_numbered(o) {
  printf("| reclaim: lease ~%d\n", o + 1);
  job = nb[o];
  given = COPIES(job) && !SURPLUS(job);       /* else it is this one the item of which is gone */
  n = (nb[1] == job -> 1 : 0);
  npast[o] = npast[n];
  drop_numbered(job);
  if
  :: given -> take(job, SWEPT); give_back(SWEPT)
  :: else
  fi
}

/* sweep.lua, for the items of some bytes. */
inline sweep(bytes) {
  do
  :: LEASES(bytes) < COPIES(bytes) ->
#ifdef SWEEP_REQUEUES
    take(bytes, SWEPT); give_back(SWEPT)
#else
    if
    :: ID(bytes) && !tok[ID(bytes)] ->
      tok[ID(bytes)] = SWEPT; cb[ID(bytes)] = bytes;
      printf("| sweep: lease %d for a bare item\n", ID(bytes))
    :: else ->
      assert(nb[1] == NONE);                  /* a bound of the model */
      n = (nb[0] == NONE -> 0 : 1);
      nb[n] = bytes;
      printf("| sweep: lease ~%d for a bare item\n", n + 1)
    fi
#endif
  :: else -> break
  od
}
