/* What the protocol rests on, by name; and what is left of it when -D takes it away. */

#ifdef TOKEN_UNREAD              /* settle: whoever has the id */
#define CURRENT(id, t) token[id]
#else
#ifdef TOKEN_UNNUMBERED          /* settle: the same consumer, whatever the number of its claim */
#define CURRENT(id, t) (token[id] > SWEPT && OWNER(token[id]) == OWNER(t))
#else
#define CURRENT(id, t) (token[id] == t)
#endif
#endif

#ifdef EXTEND_ANY                /* extend does not read the token */
#define EXTENDS(id, t) token[id]
#else
#define EXTENDS(id, t) (token[id] == t)
#endif

#ifdef SETTLE_UNSEEN             /* settle writes the new place though LREM found nothing */
#define SETTLES(how) (w < 2 || how == back)
#else
#ifdef SETTLE_LEAVES_ITEM        /* settle ends the lease, and does not LREM */
#define SETTLES(how) false
#else
#define SETTLES(how) (w < 2)
#endif
#endif

#ifdef RECLAIM_UNSEEN            /* so does reclaim */
#define RECLAIMS true
#else
#define RECLAIMS (w < 2)
#endif

#ifdef ADOPT_UNSEEN              /* adopt does not look whether the item is there */
#define FREE(item, id) true
#define FOUND true
#else
#ifdef ADOPT_OVER_EQUAL          /* adopt does not see that an equal item is somebody's */
#define FREE(item, id) (COPIES(item) > 0)
#else
#define FREE(item, id) (COPIES(item) > (BY_ID(item) && token[ID(item)] > SWEPT))
#endif
#define FOUND (w < 2)
#endif

#ifdef ADOPT_ANY                 /* adopt takes over any lease of its id */
#define TAKES_OVER(id, item) true
#else
#define TAKES_OVER(id, item) (token[id] == SWEPT && claimed[id] == item)
#endif

#ifdef KEEPER_FORGOTTEN          /* the loop does not know that the lease keeper has adopted the job since */
#define KEPT(c) false
#else
#define KEPT(c) (kept[c] == HAS_KEPT)
#endif

#ifdef CLAIM_ANY                 /* claim does not look whether its id is in use */
#define IN_USE(id) false
#else
#define IN_USE(id) token[id]
#endif

#ifdef SWEEP_UNCOUNTED           /* sweep does not count the leases of owners among those of equal items */
#define SWEPT_LEASES(item) NUMBERED(item)
#else
#define SWEPT_LEASES(item) LEASES(item)
#endif

#ifdef CRASHES_UNBOUNDED         /* reclaim never gives a job up */
#define AFTER_CRASH(item) PENDING
#else
#define AFTER_CRASH(item) (CRASHED(item) + 1 < MAX_CRASHES -> PENDING : DEAD)
#endif

#ifdef STRAYS_BY_ID              /* after a lost answer: what has the id of the job in hand is not released */
#define KNOWS(c, id) (slot[c] && my_id[c] == id)
#else
#define KNOWS(c, id) (slot[c] && slot[c] != GIVEN_UP && my_id[c] == id && my_token[c] == token[id])
#endif

#ifdef BEGUN_TOLD                /* what has begun before its adoption is settled before the answer, too */
#define TOLD(c) (slot[c] >= ENDED)
#else
#define TOLD(c) (slot[c] >= ENDED && owned[c])
#endif

#ifdef BEGUN_LATE                /* a job begins although its bare lease may be over */
#define BEGINS(c) true
#else
#define BEGINS(c) (!overdue[c])
#endif

#ifdef BEGUN_UNKEPT              /* nobody adopts what has begun, and keeps the loop to itself, when its adoption got lost */
#define ADOPTED_SOMEHOW(c) (!BEGUN(c) || trip[c] == ADOPTS || losses == LOST)
#else
#define ADOPTED_SOMEHOW(c) true
#endif

#ifdef KEEPER_BY_ID              /* the keeper's answer is for whatever has the id by then */
#define IS_ASKED(c) (slot[c] && my_id[c] == keeper_id[c])
#else
#define IS_ASKED(c) (slot[c] && my_id[c] == keeper_id[c] && my_token[c] == keeper_token[c])
#endif

#ifdef ENDED_ANY                 /* the leases of who is gone are ended whoever has them by then */
#define ENDS(id, t) token[id]
#else
#define ENDS(id, t) (token[id] == t)
#endif

#ifdef MISSED_UNSEEN             /* who was never seen connected can be missed */
#define KNOWN(c) true
#else
#define KNOWN(c) seen[c]
#endif

#ifdef MISSED_ONCE               /* who was missing is gone, though connected again */
#define AWAY(c) true
#else
#define AWAY(c) (!VISIBLE(c))
#endif

#ifdef MISSED_AT_ONCE            /* who has no connection at a look is gone */
#define WAITED(c) true
#else
#define WAITED(c) waited[c]
#endif
