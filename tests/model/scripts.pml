/* The scripts of src/headrace/scripts, as far as they decide who holds a job: what they compare, take and write. */

/* LREM: `w` is the item that was taken, 2 if there is none. Equal items are alike: the caller gets the one that
 * suits it best, so that an assertion fails only when it fails for either. */
inline take(item, t) {
  w = (AT(0, item) && holder[0] == t -> 0 : (AT(1, item) && holder[1] == t -> 1 :
      (AT(0, item) && !holder[0] -> 0 : (AT(1, item) && !holder[1] -> 1 :
      (AT(0, item) -> 0 : (AT(1, item) -> 1 : 2))))))
}

/* LPUSH of what was taken, elsewhere. */
inline put(where, item) {
  assert(w < 2);                                       /* I2: a job that is written somewhere was taken elsewhere */
  place[w] = where;
  by[w] = (where == PENDING -> item : 0);
  holder[w] = 0
}

inline grant(id, t, item) {
  token[id] = t; claimed[id] = item; past[id] = 0
}

inline drop(id) {
  token[id] = 0; claimed[id] = 0; past[id] = 0
}

inline new_id(id) {
  assert(ids < IDS - 1);                               /* a bound of the model: more ids are needed */
  ids++;
  id = ids
}

/* claim.lua: pending job i goes to processing, with lease and token. Which waits longest does not matter here.
 * A bare job gets no lease: who claimed it adopts it. */
inline claim(i, t) {
  item = by[i];
  if
  :: ID(item) && IN_USE(ID(item)) -> new_id(id_); item = WITH_ID(item, id_)    /* one lease an id */
  :: else
  fi;
  if
  :: ID(item) ->
    assert(!token[ID(item)]);                          /* I9: a claim takes nobody's lease */
    by[i] = item; holder[i] = t;
    grant(ID(item), t, item)
  :: else
  fi;
  place[i] = PROCESSING;
  printf("| claim: consumer %d gets job %d (id %d, token %d)\n", OWNER(t) + 1, i + 1, ID(item), t);
  check(item)
}

/* lib/numbered.lua: the leases of equal bare items are alike, as they are. The last one goes. */
inline drop_numbered(bare) {
  n = (numbered[1] == bare -> 1 : 0);
  numbered[0] = numbered[1 - n]; numbered_past[0] = numbered_past[1 - n];
  numbered[1] = NONE; numbered_past[1] = 0
}

/* adopt.lua: leases a bare item that its caller moved, under an id; or renews what the caller has. */
inline adopt(moved, id, t) {
  owner = token[id];
  if
  :: owner != t && !FREE(moved, id) -> answer = lost
  :: owner != t && FREE(moved, id) && owner && !TAKES_OVER(id, moved) -> answer = duplicate
  :: else ->
    item = (owner == t -> claimed[id] : moved);
    take(item, t);
    if
    :: FOUND ->
      assert(w < 2);                                   /* I2: only an item that is there gets a lease */
      assert(!holder[w] || holder[w] == t);            /* I4: an adoption takes nobody's claim */
      by[w] = WITH_ID(moved, id); holder[w] = t;
      grant(id, t, by[w]);
#ifndef ADOPT_KEEPS_GIVEN
      /* The sweep may have leased the item under its digest, or under an id that was then in use. */
      if
      :: !owner && SURPLUS(moved) && NUMBERED(moved) -> drop_numbered(moved)
      :: !owner && SURPLUS(moved) && !NUMBERED(moved) && token[ID(moved)] == SWEPT -> drop(ID(moved))
      :: else
      fi;
#endif
      check(moved); check(by[w]);
      answer = ok
    :: else -> answer = lost                           /* adopted before; a plain LREM took it */
    fi
  fi;
  printf("| adopt: consumer %d (id %d, token %d): %e\n", OWNER(t) + 1, id, t, answer)
}

/* settle.lua, for one outcome: done, or back to pending (a retry or a release). */
inline settle(id, t, how) {
  printf("| settle: consumer %d, %e (id %d, token %d; the current one is %d)\n", OWNER(t) + 1, how, id, t, token[id]);
  if
  :: CURRENT(id, t) ->
    item = claimed[id];
    take(item, t);
    assert(w == 2 || holder[w] == t);                  /* I4: only the current claim settles */
    if
    :: SETTLES(how) ->
      put((how == done -> DONE : PENDING), item);
      answer = ok;
      owner = OWNER(t);
      assert(my_token[owner] != t || !spent[owner] || ASTRAY);    /* I5: one claim settles one job, however often it is sent */
      spent[owner] = spent[owner] || my_token[owner] == t
    :: else -> answer = lost                           /* a plain LREM took it */
    fi;
    drop(id);
    check(item)
  :: else -> answer = lost                             /* it changes nothing */
  fi
}

/* extend.lua, for one lease. */
inline extend(id, t) {
  printf("| extend: consumer %d (id %d, token %d; the current one is %d)\n", OWNER(t) + 1, id, t, token[id]);
  if
  :: EXTENDS(id, t) ->
    assert(token[id] == t);                            /* I4: only the current claim extends */
    past[id] = 0; answer = ok
  :: else -> answer = lost
  fi
}

/* sweep.lua, for the items of the same bytes, of which the call sees so many: each without a lease gets one. */
inline sweep(bare, seen) {
  do
  :: SWEPT_LEASES(bare) < seen ->
    if
    :: ID(bare) && !token[ID(bare)] ->
      grant(ID(bare), SWEPT, bare);
      printf("| sweep: a lease for a bare item (id %d)\n", ID(bare))
    :: else ->
      assert(numbered[1] == NONE);                     /* I2: two items have no more than two leases */
      n = (numbered[0] == NONE -> 0 : 1);
      numbered[n] = bare; numbered_past[n] = 0;
      printf("| sweep: a lease for a bare item (~%d)\n", n + 1)
    fi
  :: else -> break
  od;
  check(bare)
}

/* Item `w`, the lease of which is past, is runnable again, or dead. */
inline give_back(t, cause) {
  item = by[w];
  assert(cause == TOO_SLOW || !IN_HAND(0, ID(item), t) && !IN_HAND(1, ID(item), t));   /* I9: a live holder keeps it */
  if
  :: ID(item) ->                                       /* a crash is counted, though no code ran to report it */
    assert(t == SWEPT || cause == TOO_SLOW || dead[OWNER(t)] || came_late);  /* I6: charged for a lost consumer only */
    put(AFTER_CRASH(item), item + ONE_CRASH)
  :: else -> put(PENDING, item)                        /* exactly as it was: its next consumer adopts it */
  fi;
  check(item);
  assert(place[w] == DEAD || CRASHED(by[w]) < MAX_CRASHES);    /* I6: crashes are bounded */
  assert(t != SWEPT || UNTIMELY || COPIES(item) >= AWAITED(item))    /* I9: who moved it gets the time to work */
}

/* reclaim.lua, for one lease under an id. */
inline reclaim(id) {
  owner = token[id]; why = past[id]; item = claimed[id];
  assert(why);                                         /* I9: only a lease that is past is taken away */
  drop(id);
  take(item, owner);
  printf("| reclaim: lease %d is past, its item is %e\n", id, (w < 2 -> there : gone));
  if
  :: RECLAIMS ->
    assert(w < 2);                                     /* I2: what is put back was there */
    assert(!holder[w] || holder[w] == owner);          /* I9: nothing is taken from another's claim */
    give_back(owner, why)
  :: else -> skip                                      /* a plain LREM took it */
  fi
}

/* reclaim.lua, for one lease under a digest. */
inline reclaim_numbered(o) {
  item = numbered[o];
  /* With more leases than items, it is this one the item of which is gone. */
  found = COPIES(item) && !SURPLUS(item);
  n = (numbered[1] == item -> 1 : 0);
  numbered_past[o] = numbered_past[n];
  drop_numbered(item);
  printf("| reclaim: lease ~%d is past, its item is %e\n", o + 1, (found -> there : gone));
  if
  :: found ->
    take(item, 0);
    assert(w < 2);                                     /* I2: what is put back was there */
    assert(!holder[w]);                                /* I9: nothing is taken from anybody's claim */
    give_back(SWEPT, RAN_OUT)
  :: else -> skip                                      /* a plain LREM took it */
  fi
}
