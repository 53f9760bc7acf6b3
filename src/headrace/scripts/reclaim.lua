#!lua flags=allow-oom
-- Makes jobs runnable again whose lease has expired, and counts the crash; too many crashes end in
-- the dead letters. When sweeps were missing for a while (Redis away or stalled, no leader) it
-- reclaims nothing for a grace, in which live consumers extend what they hold; except leases that
-- were ended, which have the deadline 0.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 dead (list) 5 leases (zset)
--      6 claims (hash) 7 nudge (list) 8 stats (hash) 9 meta (hash) 10 cancelled (zset)
--      11 what the names of unique keys begin with: which ones it needs is known only in here
-- ARGV 1 limit (leases, <= 1000) 2 grace (ms) 3 gap (ms): no sweep for longer begins a grace
--      4 max_crashes 5 when nothing was leased here, as whoever sweeps has seen (ms; 0 unknown):
--      as good as a sweep
-- Returns {ms left of the grace, how many came back, how many died}
-- include: sound
-- include: now
-- include: head
-- include: letter
-- include: held
-- include: numbered
-- include: place
-- include: release
local pending, processing, priority, dead, leases, claims, nudge, stats, meta, cancelled = unpack(KEYS)
local limit, grace, gap, max_crashes = whole(ARGV[1]), whole(ARGV[2]), whole(ARGV[3]), whole(ARGV[4])
local rested, now = whole(ARGV[5]), now_ms()

local swept, quiet = unpack(redis.call('HMGET', meta, 'swept', 'quiet'))
swept, quiet = math.max(tonumber(swept) or 0, rested), tonumber(quiet) or 0
if now - swept > gap or swept > now then quiet = now + grace end
local past = now < quiet and 0 or now
local expired = redis.call('ZRANGE', leases, '-inf', past, 'BYSCORE', 'LIMIT', 0, limit)
if #expired > 0 then
  sound('LLEN', 'LLEN', 'ZCARD', 'LLEN', 'ZCARD', 'HLEN', 'LLEN', 'HLEN', 'HLEN', 'ZCARD')
end
redis.call('HSET', meta, 'swept', number(now), 'quiet', number(quiet))

local back, died, bytes = 0, 0, 0
local function expire(name)
  local owner, item = held(redis.call('HGET', claims, name))
  local expired = item and redis.call('LPOS', processing, item, 'RANK', -1)
  local last = name
  if item and string.sub(name, 1, 1) == '~' then
    local digest, count = numbered(claims, item)
    -- With more leases than items, it is this one whose item is gone: a plain LREM took it.
    expired = expired and not surplus(processing, claims, item, count)
    last = digest .. count
  end
  drop_numbered(leases, claims, name, last)
  local id = item and id_of(item)
  local key = id == name and key_of(item)  -- with a digest, another job of this id is there as well
  local function over()
    if key then release(KEYS[11] .. key, {[id] = true}) end
  end
  if not expired then return over() end
  bytes = bytes + #item
  if not id then
    redis.call('LPUSH', pending, item)  -- exactly as it was: its next consumer adopts it
    back = back + 1
  elseif redis.call('ZSCORE', cancelled, id) then
    redis.call('HINCRBY', stats, 'cancel', 1)
    over()
  else
    local job, crashes = returned(item, 1)
    local dies = crashes >= max_crashes and letter(job, owner, crashes, now)
    if dies then
      redis.call('LPUSH', dead, dies)
      died = died + 1
      over()
    else
      place(job, pending, priority, nudge, stats)
      back = back + 1
    end
  end
  redis.call('LREM', processing, -1, item)
end
for _, name in ipairs(expired) do
  while back + died < limit and bytes < 1048576
    and (tonumber(redis.call('ZSCORE', leases, name)) or math.huge) <= past do expire(name) end
end
if back > 0 then redis.call('HINCRBY', stats, 'reclaimed', back) end
if died > 0 then redis.call('HINCRBY', stats, 'dead', died) end
return {math.max(0, quiet - now), back, died}
