#!lua flags=allow-oom
-- Compares a stretch of a queue's claims and leases with what is in processing; mends, if told to,
-- what does not fit. No job is moved, rewritten or deleted. A claim without a lease gets one; a claim
-- whose item is gone, and a lease without a claim, are dropped: the sweep leases what is then bare.
-- KEYS 1 processing (list) 2 leases (zset) 3 claims (hash)
-- ARGV 1 'look' or 'mend' 2 cursor into claims ('0' at first; '' they are through) 3 offset into
--      leases 4 limit (claims, and leases, <= 1000) 5 lease (ms) of a claim that has none
-- Returns {next cursor ('': through), next offset (0: through), claims without a lease, claims whose
--   item is gone, leases without a claim, claims that cannot be read, items, claims}
-- include: now
-- include: head
-- include: held
local processing, leases, claims = unpack(KEYS)
local mend, cursor, offset, limit = ARGV[1] == 'mend', ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local deadline = now_ms() + ARGV[5]
local items, entries = redis.call('LLEN', processing), redis.call('HLEN', claims)
redis.call('ZCARD', leases)  -- a key of a wrong type has to fail before anything is written

-- Of n equal bare items the leases are alike: those with the highest ordinals have no item. One of
-- the items may have its lease by its id.
local function is_gone(name, item)
  local ordinal = tonumber(string.match(name, '^~.*:(%d+)$'))
  if not ordinal then return not redis.call('LPOS', processing, item) end
  local copies, id = #redis.call('LPOS', processing, item, 'COUNT', ordinal + 1), id_of(item)
  local _, leased = held(id and redis.call('HGET', claims, id))
  return ordinal > copies - (leased == item and 1 or 0)
end

local unleased, gone, unclaimed, unreadable, seen, bytes = 0, 0, 0, 0, 0, 0
local function look_at(name, value)
  local _, item = held(string.find(value, ' ', 1, true) and value)
  if not item or (string.sub(name, 1, 1) ~= '~' and id_of(item) ~= name) then
    unreadable = unreadable + 1
    return
  end
  local without, lost = not redis.call('ZSCORE', leases, name), is_gone(name, item)
  if lost then gone = gone + 1 end
  if without then unleased = unleased + 1 end
  if mend and lost then
    redis.call('HDEL', claims, name)
    redis.call('ZREM', leases, name)
  elseif mend and without then
    redis.call('ZADD', leases, deadline, name)
  end
end
while cursor ~= '' and seen < limit and bytes < 1048576 do
  local following, pairs = unpack(redis.call('HSCAN', claims, cursor, 'COUNT', 8))
  for i = 1, #pairs, 2 do
    seen, bytes = seen + 1, bytes + #pairs[i + 1]
    look_at(pairs[i], pairs[i + 1])
  end
  cursor = following == '0' and '' or following
end

local names, kept = redis.call('ZRANGE', leases, offset, offset + limit - 1), 0
for _, name in ipairs(names) do
  if redis.call('HEXISTS', claims, name) == 1 then kept = kept + 1
  else
    unclaimed = unclaimed + 1
    if mend then redis.call('ZREM', leases, name) else kept = kept + 1 end
  end
end
local through = offset + kept >= redis.call('ZCARD', leases)
return {cursor, through and 0 or offset + kept, unleased, gone, unclaimed, unreadable, items, entries}
