-- Equal bare items are alike, and so are their leases: "~digest:1", "~digest:2", … without gaps.
-- Answers what their names begin with, and how many there are.
local function numbered(claims, item)
  local digest, count = '~' .. redis.sha1hex(item) .. ':', 0
  while redis.call('HEXISTS', claims, digest .. count + 1) == 1 do count = count + 1 end
  return digest, count
end

-- Whether there are more of them than items, of which one may have its lease by its id.
local function surplus(processing, claims, item, count)
  local copies = #redis.call('LPOS', processing, item, 'COUNT', count + 1)
  local id = id_of(item)
  local _, leased = held(id and redis.call('HGET', claims, id))
  if leased == item then copies = copies - 1 end
  return copies < count
end

-- Drops one of them: the last one, whose deadline `name` takes over.
local function drop_numbered(leases, claims, name, last)
  if last ~= name then redis.call('ZADD', leases, redis.call('ZSCORE', leases, last), name) end
  redis.call('HDEL', claims, last)
  redis.call('ZREM', leases, last)
end
