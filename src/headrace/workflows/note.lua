#!lua flags=allow-oom
-- Notes a member that ended without a consumer: it crashed too often, or was cancelled while it waited.
-- KEYS 1 dead (list) 2 claims (hash) 3 cancelled (zset), of the member's queue
--      4 hash (hash) 5 ended (string) 6 results (hash) 7 rest (list) 8 unfinished (zset) 9 told (list)
--      10… of each queue that the workflow uses: pending (list); priority (zset); delayed (zset); nudge
--      (list); stats (hash)
-- ARGV 1 its letter, '' if it has none 2 its id 3 its number 4 how it failed, as JSON 5 how many queues
-- Returns 1; 0: it is alive, and nothing changed
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
local dead, claims, cancelled = unpack(KEYS)
local letter, id, n, why, names = ARGV[1], ARGV[2], whole(ARGV[3]), ARGV[4], whole(ARGV[5])
sound('LLEN', 'HLEN', 'ZCARD')
if why == '' then error('no failure') end
if letter ~= '' then
  if not redis.call('LPOS', dead, letter) then return 0 end  -- redriven
elseif not redis.call('ZSCORE', cancelled, id) or redis.call('HEXISTS', claims, id) == 1 then
  return 0
end
local flow = looked_at(4, 10, names, n)
if flow then note_end(flow, '', why, now_ms()) end
return 1
