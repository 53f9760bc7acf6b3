#!lua flags=allow-oom
-- Moves the deadlines of leases, each only under its current token; or ends them, for a consumer
-- that is gone.
-- KEYS 1 leases (zset) 2 claims (hash) 3 cancelled (zset)
-- ARGV 1 lease (ms; 0 ends it) 2 consumer, then for each claim: id; claim number
-- Returns {ids that were lost, ids that somebody wants cancelled}
-- include: sound
-- include: now
-- include: held
local leases, claims, cancelled = unpack(KEYS)
sound('ZCARD', 'HLEN', 'ZCARD')
local ids = {}
for i = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local values = redis.call('HMGET', claims, unpack(ids))
local deadline = ARGV[1] == '0' and 0 or now_ms() + whole(ARGV[1])
local scores, lost, stop = {}, {}, {}
for n, id in ipairs(ids) do
  if held(values[n]) == ARGV[2] .. ':' .. ARGV[2 + 2 * n] then
    scores[#scores + 1] = deadline
    scores[#scores + 1] = id
  else
    lost[#lost + 1] = id
  end
end
if #scores > 0 then redis.call('ZADD', leases, unpack(scores)) end
if redis.call('EXISTS', cancelled) == 1 then
  for _, id in ipairs(ids) do
    if redis.call('ZSCORE', cancelled, id) then stop[#stop + 1] = id end
  end
end
return {lost, stop}
