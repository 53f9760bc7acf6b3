#!lua flags=allow-oom
-- Counts out jobs that are at no consumer and do not wait to be claimed either, whoever has lost or taken
-- them; forgets buckets that are full; lets out what may run now. A stretch at a time.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
--      11 claims (hash)
-- ARGV 1 as admit has it 2 offset into slots 3 cursor into buckets 4 limit (slots, buckets, <= 1000)
-- Returns {as admit has it, the next offset (0: through), the next cursor ('0': through), how many were freed,
--   whether anything waits or has a slot (0, 1)}
-- include: sound
-- include: head
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
-- include: lanes/lib/out
-- include: lanes/lib/turns
-- include: lanes/lib/alarm
local claims, offset, most = KEYS[11], whole(ARGV[2]), whole(ARGV[4], 1)
redis.call('HLEN', claims)
if most > 1000 then error('too many') end
local function split(member) return string.match(member, '^%S+ (%d+) (.+)$') end
local function is_out(number)  -- let out, and not claimed yet
  local score = score_of(number)
  return redis.call('ZCOUNT', priority, score, score) > 0
end
local gone, taken = {}, {}
local some = redis.call('ZRANGE', slots, offset, offset + most - 1)
for _, member in ipairs(some) do
  local of, id = split(member)
  if not of or (redis.call('HEXISTS', claims, id) == 0 and not is_out(of)) then gone[#gone + 1] = member end
end
for _, member in ipairs(redis.call('ZRANGE', admitted, 0, most - 1)) do
  local of = split(member)
  if not of or not is_out(of) then taken[#taken + 1] = member end
end
count_out(taken, gone)
local cursor, found = unpack(redis.call('HSCAN', buckets, ARGV[3], 'COUNT', most))
for i = 1, #found, 2 do
  local lane = found[i]
  if string.find(lane, '/', 1, true) then
    local one = limit(lane, string.match(lane, '^[^/]*') .. '/*')
    if not one or one.rate <= 0 or one.tokens >= one.free then redis.call('HDEL', buckets, lane) end
  end
end
known, order = {}, {}
local due = alarm(ARGV[1], (take_turns(gone)))
local busy = redis.call('EXISTS', limited, slots, admitted) > 0
return {due, #some < most and 0 or offset + #some - #gone, cursor, #gone, busy and 1 or 0}
