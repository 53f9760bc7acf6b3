/* The scripts of src/headrace/workflows, and what they keep. */

#define NOBODY 255
#ifdef CHORD
#define MEMBERS 3
#define HANDS_ON(j) NOBODY
#define AFTER(n) (n < 2 -> 2 : NOBODY)
#define NEEDS 2
#else
#define MEMBERS 2
#define HANDS_ON(j) (j == 0 -> 2 : NOBODY)
#define AFTER(n) (n == 0 -> 1 : NOBODY)
#define NEEDS 1
#endif

#ifdef CONTINUE
#define ENDS(how) true
#else
#define ENDS(how) (how == done)
#endif

/* The workflow: its hash, and the bitmap. `need` is of the one member that waits for others. */
mtype = { running, failed, over };
mtype state = running;
bit ended[3], dead_field[3];
byte need = NEEDS, left = MEMBERS, dead_members;

/* The dead letters: their numbers tell the order, and one from the next of the same job. What the queue counts. */
byte letter[3], letters, redriven;
#define NEWER(i, j) (letter[i] > letter[j])
#define STANDS(j, at) (letter[j] && NEWER(0, j) + NEWER(1, j) + NEWER(2, j) == at)

/* The memory of the model: whether a job had ended at some time, as the policy counts; whether it was dead. */
bit was_over[3], was_dead[3];
#define RECOVERED(j) (!was_dead[j] || place[j] == DONE)
byte fails = FAILS, redrives = REDRIVES, leaders = LEADERS;
scratch byte before;

/* Asked after each script that ends or notes a job. */
inline check() {
  assert(place[2] == NOT_YET || was_over[0] && (MEMBERS == 2 || was_over[1]));    /* H2: what follows waits for all that it follows */
  assert(MEMBERS == 3 || place[1] == NOT_YET || was_over[0]);                     /* H2: a link waits for the one before */
  assert(state != failed || !RECOVERED(0) || !RECOVERED(1) || !RECOVERED(2))      /* H4: a failed workflow has a failed member */
}

/* lib/accept.lua. */
inline accept(j) {
  assert(place[j] == NOT_YET);                         /* H1: what follows is enqueued once */
  place[j] = PENDING;
  printf("| … and job %d is enqueued\n", j)
}

/* lib/ended.lua, from `looked_at` on. What is written by nobody else needs no look before the first write. */
inline note_end(j, how) {
  if
  :: j >= MEMBERS || state == over || MARKED(j) -> skip
  :: else ->
    assert(how == done || place[j] == DEAD);           /* H4: who is noted as dead is dead */
    before = NOTED(j); dead_field[j] = dead_field[j] && !before;
    dead_members = dead_members - before + (how == dead);
    dead_field[j] = dead_field[j] || how == dead;
    if
    :: !ENDS(how) -> state = failed
    :: else ->
      ended[j] = 1;
      assert(left);                                    /* H3: no member counts twice */
      left--;
      if
      :: AFTER(j) != NOBODY ->
        need--;
        if
        :: !need -> accept(AFTER(j))
        :: else
        fi
      :: else
      fi;
      if
      :: !left -> state = over
      :: left && state == failed && !dead_members -> state = running
      :: else
      fi
    fi;
    printf("| … the workflow is %e, %d members are left\n", state, left)
  fi
}

inline follow(j, how) {
  if
  :: HANDS(how) && HANDS_ON(j) != NOBODY -> accept(HANDS_ON(j))
  :: else
  fi;
  if
  :: how != back -> note_end(j, how)
  :: else
  fi
}

/* LPUSH of a letter. */
inline bury(j) {
  letters++; letter[j] = letters; was_dead[j] = 1; was_over[j] = was_over[j] || ENDS(dead)
}

inline give_way(j, how) {
  put(j, PROCESSING, (how == done -> DONE : (how == dead -> DEAD : PENDING)));
  end_claim(j);
  if
  :: how == dead -> bury(j)
  :: else -> was_over[j] = was_over[j] || how == done
  fi
}

/* commit.lua; of a retry, settle.lua: its fence is the same. */
inline finish(j, t, how) {
  printf("| commit: job %d, %e (token %d; the current one is %d)\n", j, how, t, token[j]);
  if
  :: CURRENT(j, t) ->
    assert(token[j] == t);                             /* I4: only the current claim ends a job */
    give_way(j, how); follow(j, how);                  /* in the script the other way round, which nobody sees */
    answer = ok
  :: else ->
    if
    :: HANDS_ON_LOST(how) -> follow(j, how)
    :: else
    fi;
    answer = lost
  fi;
  check()
}
