#!lua
-- Accepts a batch that was taken from another server, once. Or, back where it was taken, puts it back.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
--      11 delayed (zset) 12 dead (list) 13 moving (list) 14 arrived (string): it is there if the batch is
--      15… unique (string): of keys that jobs of the batch have
-- ARGV 1 the batch's name 2 '1': it goes back 3 how long its name is remembered (ms), then for each
--      unique key its value, and for how long it stands (ms); then entries as take returns them
-- Returns 'arrived'; 'before': it had; 'here': it was taken here, and was not meant to go back
-- include: sound
-- include: head
-- include: place
-- include: postpone
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
-- include: lanes/lib/out
-- include: lanes/lib/turns
local delayed, dead, moving, arrived = KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local name, back, remembered, first = ARGV[1], ARGV[2] == '1', whole(ARGV[3], 1), 4 + 2 * (#KEYS - 14)
if back ~= (redis.call('LINDEX', moving, 0) == name) then return back and 'before' or 'here' end
if redis.call('EXISTS', arrived) == 1 then return 'before' end
redis.call('ZCARD', delayed) redis.call('LLEN', dead)
for i = 4, first - 1, 2 do whole(ARGV[i + 1], 1) end
if #ARGV - first >= 1000 then error('too many jobs') end
local PLACES = {pending = true, priority = true, delayed = true, limited = true, dead = true}
local entries = {}
for i = first, #ARGV do
  local where, detail, job = string.match(ARGV[i], '^(%l+) (%S+) (.*)$')
  if not PLACES[where] then error('no entry at ' .. i) end
  if where == 'limited' and not (is_lane(detail) and id_of(job)) then where = 'pending' end
  entries[#entries + 1] = {where, where == 'delayed' and whole(detail) or detail, job}
end

for _, entry in ipairs(entries) do
  local where, detail, job = unpack(entry)
  if where == 'pending' then redis.call('LPUSH', pending, job)
  elseif where == 'dead' then redis.call('LPUSH', dead, job)
  elseif where == 'limited' then wait(job, detail, now)
  elseif where == 'delayed' and detail > now then postpone({job}, detail, now, pending, delayed, stats)
  else place(job, pending, priority, nudge, stats) end
end
redis.call('HINCRBY', stats, 'enqueued', #entries)
if redis.call('ZCARD', lanes) > 0 then take_turns({}) end
for i = 4, first - 1, 2 do
  redis.call('SET', KEYS[13 + i / 2], ARGV[i], 'NX', 'PX', ARGV[i + 1])
end
if back then redis.call('DEL', moving)
else redis.call('SET', arrived, '', 'PX', remembered) end
return 'arrived'
