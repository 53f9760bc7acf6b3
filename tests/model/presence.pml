/* Presence (src/headrace/maintenance: lost_consumers, presence): whoever leads looks which consumers have a connection
 * to Redis. Who was seen, and has had none for a while, is gone: its leases end at once, and reclaim takes them. */

#ifdef HIDDEN
#define NAMED(c) (c == 0)
#else
#define NAMED(c) true
#endif
#define VISIBLE(c) (!dead[c] && !CUT(c) && NAMED(c))
#define GONE(c) (missing[c] && WAITED(c) && AWAY(c))

/* A look. What it shows is noted in Redis, for the next leader: it goes on from there, so that it is as the same. */
#define LOOK(c) :: step { !ending && VISIBLE(c) && !GONE(c) && (!seen[c] || missing[c]) -> \
    seen[c] = 1; missing[c] = 0; waited[c] = 0; printf("| the leader sees consumer %d\n", c + 1) } \
  :: step { !ending && !VISIBLE(c) && KNOWN(c) && !missing[c] -> missing[c] = 1; printf("| the leader misses consumer %d\n", c + 1) } \
  :: step { !ending && GONE(c) -> ending = c + 1; printf("| the leader takes consumer %d as gone\n", c + 1) }

/* The while goes by. A live consumer is back before: its lease keeper reconnects. That it is not is a fault. */
#define WAIT(c) :: step { missing[c] && !waited[c] && (dead[c] || !CUT(c)) -> waited[c] = RAN_OUT } \
  :: step { missing[c] && !waited[c] && !dead[c] && CUT(c) && stalls -> stalls--; waited[c] = TOO_SLOW; \
    printf("| consumer %d is away for too long\n", c + 1) }

/* A supervisor need not look: it hears that its child has died. */
#define HEAR(c) :: step { !ending && dead[c] && (EACH_ID(IS_OF_##c) false) -> ending = c + 1; \
  printf("| the supervisor hears that consumer %d is gone\n", c + 1) }
#define IS_OF_0(id) LIVES(id) && BY(token[id], 0) ||
#define IS_OF_1(id) LIVES(id) && BY(token[id], 1) ||

/* One call lists what it holds; the next one is extend with no time, under the tokens that were listed. */
#define HELD_BY_GONE(id) (LIVES(id) && BY(token[id], ending - 1))
#define LIST(id) :: step { ending && !listed && HELD_BY_GONE(id) -> listed = id; listed_token = token[id] }
#define HOLDS_NOT(id) !HELD_BY_GONE(id) &&

#define CUT_OFF(c) :: step { cuts && !dead[c] && !cut[c] && trip[c] == NO && !keeper[c] -> cuts--; cut[c] = 1; \
    printf("| consumer %d is cut off\n", c + 1) } \
  :: step { cut[c] -> cut[c] = 0; printf("| consumer %d is back\n", c + 1) }

#ifdef PRESENCE
proctype Presence() {
  bit seen[2], missing[2];
  byte waited[2], ending, listed, listed_token;
end:
  do
  LOOK(0)
  LOOK(1)
  WAIT(0)
  WAIT(1)
  HEAR(0)
  HEAR(1)
  EACH_ID(LIST)
  :: step {
      listed ->
      if
      :: ENDS(listed, listed_token) ->
        past[listed] = (waited[ending - 1] == TOO_SLOW -> TOO_SLOW : RAN_OUT);
        printf("| the leader ends lease %d\n", listed)
      :: else -> skip                                  /* lost: it is somebody else's by now */
      fi;
      listed = 0; listed_token = 0
    }
  :: step {
      ending && !listed && EACH_ID(HOLDS_NOT) true ->
      seen[ending - 1] = 0; missing[ending - 1] = 0; waited[ending - 1] = 0; ending = 0
    }
#if CUTS
  CUT_OFF(0)
  CUT_OFF(1)
#endif
  od
}
#endif
