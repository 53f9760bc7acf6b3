/* What the scripts and consumers of this model rest on; each with what is left when -D takes it away. */

#ifdef FENCE_BY_ID          /* settle: whoever has the id may end the claim */
#define CURRENT(k, t, mine) tok[k]
#else
#ifdef FENCE_BY_BYTES       /* settle: whoever has the bytes */
#define CURRENT(k, t, mine) (COPIES(mine) > 0)
#else
#ifdef FENCE_BY_NAME        /* settle: the same consumer, whatever the number of its claim */
#define CURRENT(k, t, mine) (tok[k] > SWEPT && SAME_NAME(tok[k], t))
#else
#define CURRENT(k, t, mine) (tok[k] == t)
#endif
#endif
#endif

#ifdef FENCE_BY_BYTES
#define SETTLED(k, mine) mine
#else
#define SETTLED(k, mine) cb[k]
#endif

#ifdef WRITE_FIRST          /* settle writes the job's new place before it knows that the old one is there */
#define FOUND(how) (w < NJ || how != done)
#else
#define FOUND(how) (w < NJ)
#endif

#ifdef EXTEND_BY_ID         /* extend does not compare the token */
#define EXTENDS(k, t) tok[k]
#else
#define EXTENDS(k, t) (tok[k] == t)
#endif

#ifdef NO_OWNER_CHECK       /* adopt takes over any lease */
#define TAKES_OVER(k, bytes) true
#else
#define TAKES_OVER(k, bytes) (tok[k] == SWEPT && cb[k] == bytes)
#endif

#ifdef NO_FREE_COPY         /* adopt takes an item that is somebody's under the id that both came with */
#define FREE_COPIES(bytes) (COPIES(bytes) - (tok[k] > SWEPT && cb[k] == bytes))
#else
#define FREE_COPIES(bytes) (COPIES(bytes) - (ID(bytes) && tok[ID(bytes)] > SWEPT && cb[ID(bytes)] == bytes))
#endif

#ifdef NO_CRASH_BOUND       /* reclaim never gives a job up */
#define AFTER_CRASH(x) PENDING
#else
#define AFTER_CRASH(x) (CRASHED(x) + 1 < MAX_CRASHES -> PENDING : DEAD)
#endif
