#!lua flags=allow-oom
-- Declares limits, or sets them over what is declared; what waits is under them at once.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
-- ARGV for each: its name, "!" in front if it is set; "rate burst most", '' to take it back; and of "*age" a
--      number (ms), of "*part" the number of this partition and how many there are
-- Returns how many have changed
-- include: sound
-- include: head
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
-- include: lanes/lib/out
-- include: lanes/lib/turns
local changed = 0
for i = 1, #ARGV, 2 do
  local valid = string.find(ARGV[i + 1], '^[%d.]+ [%d.]+ %d+$') or string.find(ARGV[i + 1], '^%d* ?%d*$')
  if not valid then error('no limit: ' .. ARGV[i + 1]) end
end
for i = 1, #ARGV, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  if (redis.call('HGET', limits, name) or '') ~= value then
    changed = changed + 1
    if value == '' then redis.call('HDEL', limits, name) else redis.call('HSET', limits, name, value) end
  end
end
if changed > 0 then
  configure()
  take_turns({})
end
return changed
