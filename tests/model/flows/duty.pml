/* Members that ended without a consumer: the leader's duty (src/headrace/workflows/duty.py) finds their letters; and
 * an operator, who puts letters back. The duty reads one letter a page, where the real one reads a hundred. */

#define RESTS 0
#define LOOKS 1
#define COUNTS 2                 /* in the same request as the page, but Redis may do other things in between */
#define NOTES 3
#define ENDS_TURN 4

proctype Duty() {
  byte doing, seen = NOBODY, at, page, page_job;
  byte now, then, counted, redriven_at;    /* what the queue counted at the turn's begin, and at the last page */
end:
  do
  :: step { doing == RESTS && state != over && UNSEEN(seen) ->
      now = letters; then = redriven; counted = letters; redriven_at = redriven; at = 0; doing = LOOKS }
  :: step { doing == LOOKS && (seen == NOBODY || at < counted - seen) ->
      page_job = (STANDS(0, at) -> 0 : (STANDS(1, at) -> 1 : (STANDS(2, at) -> 2 : NOBODY)));
      page = (page_job == NOBODY -> 0 : letter[page_job]); doing = COUNTS }
  :: step { doing == LOOKS && seen != NOBODY && at >= counted - seen -> doing = ENDS_TURN }
  :: step { doing == COUNTS -> counted = letters; redriven_at = redriven; doing = (page -> NOTES : ENDS_TURN) }
  :: step { doing == NOTES ->
      printf("| note: job %d is dead, says letter %d\n", page_job, page);
      if
      :: IS_THERE(page_job, page) -> note_end(page_job, dead); check()
      :: else -> skip                                    /* redriven */
      fi;
      at++; page = 0; doing = LOOKS }
  :: step { doing == ENDS_TURN ->
      seen = (UNMOVED(then) -> now : seen);
      now = 0; then = 0; counted = 0; redriven_at = 0; at = 0; page_job = 0; doing = RESTS }
#if LEADERS
  /* Whoever leads next knows nothing of what this one has seen. */
  :: step { leaders -> leaders--; printf("| another one leads\n"); seen = AT_FIRST;
      now = 0; then = 0; counted = 0; redriven_at = 0; at = 0; page = 0; page_job = 0; doing = RESTS }
#endif
  od
}

#if REDRIVES
/* redrive.lua: a letter that is not there changes nothing, so it does not matter when it was read. */
#define REDRIVE(c, j) :: step { redrives && letter[j] -> redrives--; printf("| redrive: job %d\n", j); \
  put(j, DEAD, PENDING); letter[j] = 0; crashed[j] = 0; redriven++ }
proctype Operator() {
end:
  do
  EACH_JOB(REDRIVE, 0)
  od
}
#endif
