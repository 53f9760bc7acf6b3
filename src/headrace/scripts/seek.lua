#!lua flags=allow-oom
-- Looks for a job by its id in a stretch of a place. The search goes on in Redis, so that it sends one
-- job, and not the queue.
-- KEYS 1 place (list or zset)
-- ARGV 1 id 2 offset (items; of a list from the newest) 3 limit (items, <= 1000)
-- Returns {the job's bytes or '', the next offset (0: the place is through)}
-- include: sound
local place = KEYS[1]
local id, offset, limit = ARGV[1], whole(ARGV[2]), whole(ARGV[3])
local read = redis.call('TYPE', place).ok == 'zset' and 'ZRANGE' or 'LRANGE'
local start, last, bytes = '{"id":"' .. id .. '"', offset + limit, 0
-- Steps of 8, so that large jobs stop it after about 1 MiB.
while offset < last and bytes < 1048576 do
  local items = redis.call(read, place, offset, offset + 7)
  for _, item in ipairs(items) do
    if string.sub(item, 1, #start) == start then return {item, 0} end
    bytes = bytes + #item
  end
  if #items < 8 then return {'', 0} end
  offset = offset + 8
end
return {'', offset}
