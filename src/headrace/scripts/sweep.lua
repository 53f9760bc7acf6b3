#!lua flags=allow-oom
-- Gives each bare item of processing a lease, without touching its bytes: whoever moved it there
-- with a plain command gets the time to work and to LREM it. n equal items get n leases.
-- KEYS 1 processing (list) 2 leases (zset) 3 claims (hash)
-- ARGV 1 offset (items from the tail, the oldest) 2 limit (items, <= 1000) 3 bare_lease (ms)
--      4 'all', or 'if-unequal': only when there are not as many claims as items
-- Returns {how many leases were given, the next offset (0: the list is through)}
-- include: sound
-- include: now
-- include: head
-- include: held
-- include: numbered
local processing, leases, claims = unpack(KEYS)
local offset, limit, bare_lease = whole(ARGV[1]), whole(ARGV[2]), whole(ARGV[3])
local length = redis.call('LLEN', processing)
if ARGV[4] == 'if-unequal' and length == redis.call('HLEN', claims) then return {0, 0} end
sound('LLEN', 'ZCARD', 'HLEN')

-- Steps of 8, so that large jobs stop it after about 1 MiB.
local items, bytes = {}, 0
while #items < limit and bytes < 1048576 do
  local stop = offset + #items
  local some = redis.call('LRANGE', processing, -stop - 8, -stop - 1)
  for i = #some, 1, -1 do
    items[#items + 1] = some[i]
    bytes = bytes + #some[i]
  end
  if #some < 8 then break end
end
local given, deadline, seen = 0, now_ms() + bare_lease, {}
local function lease(name, item)
  redis.call('HSET', claims, name, '- ' .. item)
  redis.call('ZADD', leases, deadline, name)
  given = given + 1
end
-- Leases of bare items are counted by digest: an equal item beyond that count is bare.
-- (Equal items with an id that stand more than one call apart: the later one is found when the
-- earlier one's lease ends.)
for _, item in ipairs(items) do
  local known, id = seen[item], id_of(item)
  if not known then
    local _, job = held(id and redis.call('HGET', claims, id))
    known = {}
    known.digest, known.ordinal = numbered(claims, item)
    local most = math.max(1000, known.ordinal + 1)
    known.copies = id and 0 or #redis.call('LPOS', processing, item, 'COUNT', most)
    -- Some are gone, by a plain LREM. The last leases go with them: were it those that run out first,
    -- equal items that come and go would put off the end of one that stays for ever.
    while not id and known.ordinal > known.copies do
      local last = known.digest .. known.ordinal
      drop_numbered(leases, claims, last, last)
      known.ordinal = known.ordinal - 1
    end
    known.leased = known.ordinal + (job == item and 1 or 0)
    seen[item] = known
  end
  if id then known.copies = known.copies + 1 end
  while known.leased < known.copies do
    if id and redis.call('HEXISTS', claims, id) == 0 then lease(id, item)
    else
      known.ordinal = known.ordinal + 1
      lease(known.digest .. known.ordinal, item)
    end
    known.leased = known.leased + 1
  end
end
local next_offset = offset + #items
return {given, next_offset < length and next_offset or 0}
