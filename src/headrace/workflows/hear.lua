#!lua flags=allow-oom
-- Hears at a workflow's home that a member on another node has ended.
-- KEYS 1 hash (hash) 2 ended (string) 3 results (hash) 4 rest (list) 5 unfinished (zset) 6 told (list)
--      7 pending (list) 8 priority (zset) 9 delayed (zset) 10 nudge (list) 11 stats (hash), of the home
-- ARGV 1 its number; 2 its result, '' for nothing 3 how it failed, '' if it did not, both as JSON
-- Returns 1; 0: that was known, or the workflow is over, and nothing changed
-- include: sound
-- include: now
-- include: due
-- include: head
-- include: place
-- include: postpone
-- include: tell
-- include: workflows/lib/accept
-- include: workflows/lib/advance
-- include: workflows/lib/ended
if not ARGV[3] then error('no end') end
local flow = looked_at(1, 7, 1, whole(ARGV[1]))
if not flow then return 0 end
note_end(flow, ARGV[2], ARGV[3], now_ms())
return 1
