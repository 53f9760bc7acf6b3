#!lua flags=allow-oom
-- Puts a claimed job, which is not to run yet, into its lane: only under its current token, and only if its
-- bytes are still in processing. Then lets out what may run.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
--      11 processing (list) 12 leases (zset) 13 claims (hash) 14 cancelled (zset)
--      15 unique (string), if the job has a key
-- ARGV 1 consumer 2 id 3 claim number (negative: its item is nearer to the tail of processing) 4 lane
--      5 since when it waits (ms since 1970; 0 since now)
-- Returns {}, or {id}: it was lost, claimed by somebody else since, or gone. So it is when this is repeated.
-- include: sound
-- include: head
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
-- include: lanes/lib/out
-- include: lanes/lib/turns
-- include: held
-- include: release
local processing, leases, claims, cancelled = KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local id, claim, lane, since = ARGV[2], tonumber(ARGV[3]), ARGV[4], whole(ARGV[5])
redis.call('ZCARD', leases) redis.call('ZCARD', cancelled)
if claim % 1 ~= 0 or not is_lane(lane) then error('no lane') end
local side = claim < 0 and -1 or 1
local owner, job = held(redis.call('HGET', claims, id))
local ours = owner == ARGV[1] .. ':' .. number(claim * side)
local there = ours and redis.call('LPOS', processing, job, 'RANK', side)
local over = ours and (not there or redis.call('ZSCORE', cancelled, id))
if there then
  local _, of, before = string.match(job, PERMIT)
  if of then redis.call('ZREM', slots, before .. ' ' .. of .. ' ' .. id) end
  if not over then wait((returned(job, 0)), lane, since > 0 and since or now) end
  redis.call('LREM', processing, side, job)
  redis.call('HINCRBY', stats, over and 'cancel' or 'hold', 1)
end
if ours then  -- also when its item is gone: a plain LREM took it
  redis.call('HDEL', claims, id)
  redis.call('ZREM', leases, id)
end
if over and KEYS[15] then release(KEYS[15], {[id] = true}) end
take_turns({})
if there then return {} end
redis.call('HINCRBY', stats, 'lost', 1)
return {id}
