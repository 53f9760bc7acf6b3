#!lua flags=allow-oom
-- Tells why a job waits in its lane. Changes nothing.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
-- ARGV 1 id
-- Returns {} if it does not; {lane, how many are before it in its lane, how many lanes hold anything
--   (at most 1000), the job's bytes, how many are let out and not claimed, then for each of its limits: name;
--   rate; burst; most; how many have a slot; us until there is a token (0: there is one, or no rate)}
-- include: sound
-- include: head
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
local id = ARGV[1]
local lane, rank, job = waits(id)
if not lane then return {} end
local before = redis.call('ZLEXCOUNT', lanes, '[' .. lane .. ' ', '(' .. lane .. ' ' .. rank .. id)
local count, at = 0, '-'
while count < 1000 do
  local member = redis.call('ZRANGE', lanes, at, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  if not member then break end
  count, at = count + 1, '[' .. string.match(member, '^%S+') .. '!'
end
local out = redis.call('ZCOUNT', priority, '(-1', '(0')
local answer = {lane, before, count, job, out}
for _, one in ipairs(limits_of(lane)) do
  local of = one.name == lane and string.match(lane, '^[^/]*') .. '/*' or one.name
  local rate, burst, most = string.match(config[of], '^(%S+) (%S+) (%S+)$')
  local wait_us = one.rate > 0 and one.tokens < 1 and math.ceil((1 - one.tokens) * 1e6 / one.rate) or 0
  for _, value in ipairs({one.name, rate, burst, most, one.used, wait_us}) do answer[#answer + 1] = value end
end
return answer
