/* What the scripts of src/headrace/scripts compare, take and write. Each is one indivisible step.
 *
 * Equal items are alike. `take` is LREM: it sets `w` to the item, NJ if there is none, and gives the
 * caller the copy that suits it best, so that an assertion fails only if no reading is right. */

inline take(bytes, who) {
  w = (AT(0, bytes) && holder[0] == who -> 0 : (AT(1, bytes) && holder[1] == who -> 1 :
      (AT(0, bytes) && !holder[0] -> 0 : (AT(1, bytes) && !holder[1] -> 1 :
      (AT(0, bytes) -> 0 : (AT(1, bytes) -> 1 : NJ))))))
}

inline put(where, bytes) {
  assert(w < NJ);                /* I2: what is written anywhere was taken from elsewhere */
  assert(DELIVERY(bytes) < 7);   /* a bound of the model */
  place[w] = where;
  by[w] = (where >= DONE -> 0 : bytes);
  holder[w] = 0;
  printf("|   job %d is %e\n", w + 1, WORD(where))
}

inline drop(name) {
  tok[name] = 0; cb[name] = 0; past[name] = 0
}

inline drop_numbered(bytes) {   /* lib/numbered.lua: the last one goes */
  n = (nb[1] == bytes -> 1 : 0);
  nb[0] = nb[1 - n]; npast[0] = npast[1 - n];
  nb[1] = NONE; npast[1] = 0
}

inline check(bytes) {
  assert(HELD(0) && HELD(1));    /* I2: in processing and claimed is to have the lease */
  assert(ONE_LEASE(bytes))       /* I2, I9: and no lease more */
}

inline fresh_id() {
  f = 1;
  do :: ID_USED(f) -> f++ :: else -> break od;
  assert(f <= K)                 /* a bound of the model */
}

/* claim.lua, for one job. */
inline claim(j, t) {
  g = by[j];
  if
  :: ID(g) ->
    k = NAME(ID(g), t);
#ifndef NO_RENAME
    if
    :: tok[k] -> fresh_id(); g = WITH_ID(g, f); k = NAME(f, t)
    :: else
    fi;
#endif
    assert(!tok[k]);             /* I9: a claim takes the lease of no other */
    by[j] = g; holder[j] = t; tok[k] = t; cb[k] = g; past[k] = 0
  :: else                        /* bare: it gets its lease when it is adopted */
  fi;
  place[j] = PROCESSING;
  check(g);
  printf("| claim gives job %d to consumer %d (id %d, token %d)\n", j + 1, OWNER(t) + 1, ID(g), t)
}

/* adopt.lua */
#ifdef NO_OWNER_CHECK
#define REFUSES(k, t, bytes) false
#else
#ifdef NO_TAKEOVER
#define REFUSES(k, t, bytes) (tok[k] && tok[k] != t)
#else
#define REFUSES(k, t, bytes) (tok[k] && tok[k] != t && !(tok[k] == SWEPT && cb[k] == bytes))
#endif
#endif
/* Whether somebody's claim is on one of these, under the id that they came with. */
#define OTHERS(bytes, id) (ID(bytes) && ID(bytes) != id && cb[ID(bytes)] == bytes && tok[ID(bytes)] > SWEPT)
inline adopt(bytes, id, t) {
  k = NAME(id, t);
  if
  :: REFUSES(k, t, bytes) -> a = (COPIES(bytes) - (cb[k] == bytes) > 0 -> DUPLICATE : GONE)
#ifndef NO_FREE_COPY
  :: tok[k] != t && OTHERS(bytes, id) && COPIES(bytes) == 1 -> a = GONE
#endif
  :: else ->
    given = !tok[k];
    job = (tok[k] == t -> cb[k] : bytes);
    take(job, t);
    if
    :: w == NJ -> a = GONE
    :: else ->
      assert(!holder[w] || holder[w] == t);   /* I9: an adoption takes nobody's claim */
      by[w] = WITH_ID(bytes, id); holder[w] = t;
      tok[k] = t; cb[k] = by[w]; past[k] = 0;
#ifndef KEEP_GIVEN
      if
      :: given && SURPLUS(bytes) ->           /* forget_given */
        if
        :: NUMBERED(bytes) -> drop_numbered(bytes)
        :: else ->
          if
          :: tok[ID(bytes)] == SWEPT -> drop(ID(bytes))
          :: else
          fi
        fi
      :: else
      fi;
#endif
      check(bytes); check(cb[k]);
      a = OK
    fi
  fi;
  printf("| adopt by consumer %d (bytes %d, id %d, token %d): %e\n", OWNER(t) + 1, bytes, id, t, ANSWER(a))
}

/* settle.lua, for one outcome. `mine`: the job's bytes, as its consumer knows them. */
#ifdef FENCE_BY_ID
#define CURRENT(k, t) tok[k]
#else
#ifdef FENCE_BY_BYTES
#define CURRENT(k, t) true
#else
#ifdef FENCE_BY_NAME
#define CURRENT(k, t) (tok[k] && SAME_NAME(tok[k], t))
#else
#define CURRENT(k, t) (tok[k] == t)
#endif
#endif
#endif
inline settle(id, t, how, mine) {
  k = NAME(id, t);
  printf("| settle by consumer %d: %e (id %d, token %d; current: %d)\n", OWNER(t) + 1, how, id, t, tok[k]);
  if
  :: CURRENT(k, t) ->
#ifdef FENCE_BY_BYTES
    job = mine;
#else
    job = cb[k];
#endif
    take(job, t);
    assert(w == NJ || holder[w] == t);        /* I4: only the current claim settles */
    if
#ifdef WRITE_FIRST
    :: w < NJ || how != done ->
#else
    :: w < NJ ->
#endif
      if
      :: how == done -> put(DONE, 0)
      :: how == retry -> put(PENDING, mine + ONE_DELIVERY)
      :: how == release -> put(PENDING, job + ONE_DELIVERY)
      fi
    :: else                                   /* lost: a plain LREM took it */
    fi;
#ifndef KEEP_LEASE
    drop(k);
#endif
    check(job)
  :: else                                     /* lost */
  fi
}

/* extend.lua, for one lease. */
inline extend(id, t) {
  k = NAME(id, t);
  printf("| extend by consumer %d (id %d, token %d)\n", OWNER(t) + 1, id, t);
  assert(tok[k] == t);                        /* I4: only the current claim extends */
  past[k] = 0
}

/* reclaim.lua: item `w`, whose lease has expired, is runnable again, or dead. */
inline give_back(t) {
  assert(!holder[w] || holder[w] == t);       /* I9: nobody's live claim is taken away */
  x = by[w];
  if
  :: !ID(x) -> put(PENDING, x)
  :: else ->
#ifdef LEDGER
    assert(owed);                             /* I6: nobody is charged for what did not happen */
    owed--;
#endif
#ifdef NO_CRASH_BOUND
    put(PENDING, x + ONE_CRASH)
#else
    put((CRASHED(x) + 1 < MAX_CRASHES -> PENDING : DEAD), x + ONE_CRASH)
#endif
  fi;
  assert(place[w] == DEAD || CRASHED(by[w]) < MAX_CRASHES);   /* I6: crashes are bounded */
  check(x);
  assert(t != SWEPT || stalls < STALLS || inherited || COPIES(x) >= AWAITED(x))   /* I9: a bare item has its time */
}

/* sweep.lua, for the items of some bytes. */
inline sweep(bytes) {
  printf("| sweep finds a bare item (bytes %d)\n", bytes);
  do
  :: LEASES(bytes) < COPIES(bytes) ->
#ifdef SWEEP_REQUEUES
    take(bytes, SWEPT);
    give_back(SWEPT)
#else
    if
    :: ID(bytes) && !tok[ID(bytes)] -> tok[ID(bytes)] = SWEPT; cb[ID(bytes)] = bytes
    :: else ->
      assert(nb[1] == NONE);                  /* a bound of the model */
      n = (nb[0] == NONE -> 0 : 1);
      nb[n] = bytes
    fi
#endif
  :: else -> break
  od
}

/* reclaim.lua, for one lease. */
inline reclaim(name) {
  printf("| reclaim of lease %d (token %d)\n", name, tok[name]);
  assert(past[name]);                         /* I9: a lease is taken away only when it is past */
  job = cb[name]; n = tok[name];
  drop(name);
  take(job, n);
#ifdef REVIVE
  give_back(n)
#else
  if
  :: w < NJ -> give_back(n)
  :: else                                     /* a plain LREM took it */
  fi
#endif
}

inline reclaim_numbered(o) {
  printf("| reclaim of the sweep's lease %d (bytes %d)\n", o + 1, nb[o]);
  job = nb[o];
  w = (COPIES(job) && !SURPLUS(job) -> 0 : NJ);
  n = (nb[1] == job -> 1 : 0);
  npast[o] = npast[n];
  drop_numbered(job);
  if
  :: w < NJ -> take(job, SWEPT); give_back(SWEPT)
  :: else
  fi
}
