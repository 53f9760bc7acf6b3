#!lua flags=allow-oom
-- Ends claims, each only under its current token, and only if its bytes are still in processing.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 delayed (zset) 5 dead (list)
--      6 leases (zset) 7 claims (hash) 8 nudge (list) 9 stats (hash) 10 cancelled (zset)
--      11… result (list), for retry history (list), one for each outcome with a result_ttl, in their
--      order; then the unique keys (string) that jobs among them have
-- ARGV 1 consumer, then for each outcome:
--      id; claim number (negative: its item is nearer to the tail of processing); verb; delay (ms);
--      bytes: of the job for retry and park, of the letter for dead; result_ttl (ms; 0 none); result
--   verbs: done retry park release dead drop cancel
-- Returns the ids that were lost: claimed by somebody else since, or gone. Nothing changed for them.
-- include: now
-- include: head
-- include: held
-- include: place
-- include: postpone
-- include: release
-- include: tell
local pending, processing, priority, delayed, dead, leases, claims, nudge, stats, cancelled = unpack(KEYS)
local WIDTH = 7
local MOVES = {done = false, drop = false, cancel = false, retry = true, park = true, release = true, dead = true}
local WAITS = {retry = true, park = true, release = true}
local ids, counts, lost, ended, over, moving = {}, {}, {}, {}, {}, false
for i = 2, #ARGV, WIDTH do
  ids[#ids + 1] = ARGV[i]
  local moves, sum = MOVES[ARGV[i + 2]], math.abs(ARGV[i + 1]) + ARGV[i + 3] + ARGV[i + 5]
  if moves == nil or sum % 1 ~= 0 or sum > 2 ^ 53 or not ARGV[i + 6] then error('no outcome at ' .. i) end
  moving = moving or moves
end
redis.call('HLEN', stats) redis.call('ZCARD', leases)  -- wrong types fail before the first write
if moving then redis.call('LLEN', dead) waiting(pending, priority, delayed, nudge) end
local values = redis.call('HMGET', claims, unpack(ids))
local stops = redis.call('ZCARD', cancelled) > 0
local now = now_ms()

-- Writes the job's new place; it is called before the old one is given up, for a script that fails
-- half way is not rolled back.
local function write(verb, delay, bytes, job)
  if verb == 'dead' then redis.call('LPUSH', dead, bytes)
  elseif verb == 'release' then place(returned(job, 0), pending, priority, nudge, stats, true)
  elseif delay == 0 then place(bytes, pending, priority, nudge, stats)
  else postpone({bytes}, now + 1 + delay, now, pending, delayed, stats) end
end

local result, seen = 10, {}
for n, id in ipairs(ids) do
  local base = 1 + (n - 1) * WIDTH
  local claim, verb, delay = tonumber(ARGV[base + 2]), ARGV[base + 3], tonumber(ARGV[base + 4])
  local ttl, side = tonumber(ARGV[base + 6]), claim < 0 and -1 or 1
  local owner, job = held(values[n])
  local gone = seen[id] or owner ~= ARGV[1] .. ':' .. number(claim * side)
  seen[id] = seen[id] or not gone  -- a former claim of it, which is lost, may come before
  if ttl > 0 then result = result + 1 end
  if stops and WAITS[verb] and redis.call('ZSCORE', cancelled, id) then verb = 'cancel' end
  if not gone then
    if MOVES[verb] then
      gone = not redis.call('LPOS', processing, job, 'RANK', side)
      if not gone then write(verb, delay, ARGV[base + 5], job) end
    end
    if not gone then gone = redis.call('LREM', processing, side, job) == 0 end
    ended[#ended + 1] = id  -- also when its item is gone: a plain LREM took it
    over[id] = gone or not WAITS[verb]
  end
  if gone then
    lost[#lost + 1] = id
  else
    counts[verb] = (counts[verb] or 0) + 1
    if stops and verb ~= 'cancel' then redis.call('ZREM', cancelled, id) end
    if ttl > 0 then tell(KEYS[result], ARGV[base + 7], ttl, ARGV[base + 3] == 'retry') end
  end
end
if #ended > 0 then
  redis.call('HDEL', claims, unpack(ended))
  redis.call('ZREM', leases, unpack(ended))
end
for i = result + 1, #KEYS do release(KEYS[i], over) end
for verb, count in pairs(counts) do redis.call('HINCRBY', stats, verb, count) end
if #lost > 0 then redis.call('HINCRBY', stats, 'lost', #lost) end
return lost
