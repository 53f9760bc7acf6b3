#!lua flags=allow-oom
-- Makes jobs runnable again whose lease has expired, and counts the crash; too many crashes end in
-- the dead letters. When sweeps were missing for a while (Redis away or stalled, no leader) it
-- reclaims nothing for a grace, in which live consumers extend what they hold.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 dead (list) 5 leases (zset)
--      6 claims (hash) 7 nudge (list) 8 stats (hash) 9 meta (hash) 10 cancelled (zset)
-- ARGV 1 limit (leases, <= 1000) 2 grace (ms) 3 gap (ms): no sweep for longer begins a grace
--      4 max_crashes
-- Returns {'quiet', ms left of the grace} or {'ok', how many came back, how many died}
-- include: now
-- include: head
-- include: held
-- include: place
local pending, processing, priority, dead, leases, claims, nudge, stats, meta, cancelled = unpack(KEYS)
local limit, grace, gap, max_crashes = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()

local swept, quiet = unpack(redis.call('HMGET', meta, 'swept', 'quiet'))
swept, quiet = tonumber(swept), tonumber(quiet) or 0
if not swept or now - swept > gap or swept > now then quiet = now + grace end
redis.call('HSET', meta, 'swept', number(now), 'quiet', number(quiet))
if now < quiet then return {'quiet', quiet - now} end

local function drop(name)
  redis.call('HDEL', claims, name)
  redis.call('ZREM', leases, name)
end
-- A bare item's leases are numbered without gaps: the last one takes the place of the dropped one.
-- Equal items are alike, so that a lease is surplus, and no item of it expired, while there are
-- more leases than items.
local function drop_numbered(name, item)
  local digest, ordinal = string.match(name, '^(~%x+:)(%d+)$')
  local last = tonumber(ordinal)
  while redis.call('HEXISTS', claims, digest .. last + 1) == 1 do last = last + 1 end
  local copies = #redis.call('LPOS', processing, item, 'COUNT', last)
  local _, leased_by_id = held(id_of(item) and redis.call('HGET', claims, id_of(item)))
  if leased_by_id == item then copies = copies - 1 end
  local other = digest .. last
  if other ~= name then redis.call('ZADD', leases, redis.call('ZSCORE', leases, other), name) end
  drop(other)
  return copies >= last
end
local function letter(job, owner, crashes)
  local body = string.match(job, '^(.*)}%s*$')
  return body and body .. ',"error":{"reason":"crashed","type":"","message":"its consumer was lost '
    .. number(crashes) .. ' times while it ran","traceback":"","failed_at":' .. number(now)
    .. ',"consumer":"' .. (string.match(owner, '^[%w.-]+') or '-') .. '"}}'
end

local back, died, bytes = 0, 0, 0
local function expire(name)
  local owner, item = held(redis.call('HGET', claims, name))
  local expired = item and redis.call('LPOS', processing, item, 'RANK', -1)
  if item and string.sub(name, 1, 1) == '~' then expired = drop_numbered(name, item) and expired
  else drop(name) end
  if not expired then return end
  bytes = bytes + #item
  if not id_of(item) then
    redis.call('LPUSH', pending, item)  -- exactly as it was: its next consumer adopts it
    back = back + 1
  elseif redis.call('ZSCORE', cancelled, id_of(item)) then
    redis.call('HINCRBY', stats, 'cancel', 1)
  else
    local job, crashes = returned(item, 1)
    local dies = crashes >= max_crashes and letter(job, owner, crashes)
    if dies then redis.call('LPUSH', dead, dies) else place(job, pending, priority, nudge, stats) end
    if dies then died = died + 1 else back = back + 1 end
  end
  redis.call('LREM', processing, -1, item)
end
for _, name in ipairs(redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
  while (tonumber(redis.call('ZSCORE', leases, name)) or now + 1) <= now do expire(name) end
  if back + died >= limit or bytes > 1048576 then break end
end
if back > 0 then redis.call('HINCRBY', stats, 'reclaimed', back) end
if died > 0 then redis.call('HINCRBY', stats, 'dead', died) end
return {'ok', back, died}
