/* What the hand-off rests on, by name; and what is left of it when -D takes it away. */

#ifdef COMMIT_TOKEN_UNREAD       /* commit: whoever has the id */
#define CURRENT(j, t) token[j]
#else
#define CURRENT(j, t) (token[j] == t)
#endif

#ifdef COMMIT_REPEATED           /* commit enqueues although it was lost */
#define HANDS_ON_LOST(how) (how == done)
#else
#define HANDS_ON_LOST(how) false
#endif

#ifdef RETRY_HANDS_ON            /* so does who is going to run again */
#define HANDS(how) true
#else
#define HANDS(how) (how == done)
#endif

#ifdef MEMBER_UNMARKED           /* a counter alone: nobody looks whether the member's bit is set */
#define MARKED(j) false
#else
#define MARKED(j) ended[j]
#endif

#ifdef DEATH_UNMARKED            /* a member's end does not look whether its death was noted before */
#define NOTED(j) false
#else
#define NOTED(j) dead_field[j]
#endif

#ifdef NOTE_UNSEEN               /* note does not look whether the letter is still there */
#define IS_THERE(j, number) true
#else
#define IS_THERE(j, number) (letter[j] == number)
#endif

#ifdef NO_DUTY                   /* nobody looks for members that ended without a consumer */
#define UNSEEN(letters_then) false
#else
#define UNSEEN(letters_then) (letters_then != letters)
#endif

#ifdef REDRIVES_UNSEEN           /* the duty does not compare how many letters went back meanwhile */
#define UNMOVED(then) true
#else
#define UNMOVED(then) (redriven_at == then)
#endif

#ifdef LEADER_TRUSTS             /* a new leader takes what the queue counts for what was looked at */
#define AT_FIRST letters
#else
#define AT_FIRST NOBODY
#endif

/* How a consumer tells that a run has ended: one request, which is sent again until it is answered. */
#ifdef HANDOFF_IN_TWO            /* the ack, and then what follows from it */
#define EACH_WAY_TO_END(c) \
  :: step { slot[c] == ENDED -> \
      printf("| settle: job %d, %e (token %d)\n", my_job[c], outcome[c], my_token[c]); \
      if \
      :: token[my_job[c]] == my_token[c] -> give_way(my_job[c], outcome[c]); slot[c] = HALF \
      :: else -> slot[c] = SETTLING \
      fi } \
  :: step { slot[c] == HALF -> follow(my_job[c], outcome[c]); slot[c] = SETTLING }
#else
#ifdef HANDOFF_FIRST             /* what follows, and then the ack */
#define EACH_WAY_TO_END(c) \
  :: step { slot[c] == ENDED -> printf("| consumer %d hands on what job %d has for others\n", c + 1, my_job[c]); \
      follow(my_job[c], outcome[c]); slot[c] = HALF } \
  :: step { slot[c] == HALF -> \
      printf("| settle: job %d, %e (token %d)\n", my_job[c], outcome[c], my_token[c]); \
      if \
      :: token[my_job[c]] == my_token[c] -> give_way(my_job[c], outcome[c]) \
      :: else \
      fi; \
      slot[c] = SETTLING }
#else
#define EACH_WAY_TO_END(c) \
  :: step { slot[c] == ENDED -> finish(my_job[c], my_token[c], outcome[c]); slot[c] = SETTLING } \
  :: step { slot[c] == RUNS && fails -> fails--; slot[c] = ENDED; outcome[c] = dead }
#endif
#endif
