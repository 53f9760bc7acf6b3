/* What limits rest on, by name; and what is left of it when -D takes it away. */

#ifdef HOLD_TOKEN_UNREAD         /* hold: whoever has the id */
#define CURRENT(j, t, how) (how == hold && token[j] || token[j] == t)
#else
#define CURRENT(j, t, how) (token[j] == t)
#endif

#ifdef PERMIT_STALE              /* a permit is not of one delivery */
#define PERMITTED(j) permit[j]
#else
#define PERMITTED(j) (permit[j] && !stale[j])
#endif

#ifdef WORD_BY_ID                /* the word of an end frees whatever slot the job has by then */
#define MEANT(c, n) (words[c] & (JOB_OF(n) + 1) << 7)
#define WORD(c) words[c] = words[c] | my_permit[c] | (my_job[c] + 1) << 7
#else
#define MEANT(c, n) (words[c] & 1 << n)
#define WORD(c) words[c] = words[c] | my_permit[c]
#endif

#ifdef CHECK_UNSEEN              /* the duty does not look who is claimed */
#define CLAIMED(j) false
#else
#define CLAIMED(j) token[j]
#endif

#ifdef CHECK_OUT_UNSEEN          /* the duty does not look who waits to be claimed */
#define IS_OUT(n) false
#else
#define IS_OUT(n) (place[JOB_OF(n)] == LET_OUT && permit[JOB_OF(n)] == n)
#endif

#ifdef SLOT_KEPT                 /* nobody frees the slots of who is lost */
#define NOWHERE_TO_BE_SEEN(n) false
#else
#define NOWHERE_TO_BE_SEEN(n) (TAKEN(n) && !CLAIMED(JOB_OF(n)) && !IS_OUT(n))
#endif

/* How a consumer tells that a run has ended, or may not begin: one request, which is sent again until it is answered. */
#ifdef HOLD_IN_TWO               /* one call ends the claim, the next one puts the job into its lane */
#define AFTER_HOLD NOWHERE
#define FILL(c) \
  :: step { slot[c] == ENDED && outcome[c] == hold -> finish(my_job[c], my_token[c], hold); \
      slot[c] = (answer == ok -> HALF : SETTLING) } \
  :: step { slot[c] == HALF -> place[my_job[c]] = LIMITED; take_turns(); slot[c] = SETTLING }
#else
#define AFTER_HOLD LIMITED
#define FILL(c) \
  :: step { slot[c] == ENDED && outcome[c] == hold -> finish(my_job[c], my_token[c], hold); slot[c] = SETTLING }
#endif

#define EACH_WAY_TO_END(c) \
  FILL(c) \
  :: step { slot[c] == ENDED && outcome[c] != hold -> finish(my_job[c], my_token[c], outcome[c]); slot[c] = SETTLING } \
  :: step { words[c] -> admit(c); words[c] = 0 } \
  :: step { words[c] && losses -> losses--; admit(c); printf("| the answer is lost\n") }
