#!lua flags=allow-oom
-- Counts out jobs that have come to a consumer, or have ended; lets out what may run now.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
-- ARGV 1 the alarm that the caller keeps ('0' none, '' it cannot keep the time) 2 how many have come
--   3… who has come, then who has ended: lane, number and id, as their permits say
-- Returns {the alarm that the caller has to keep: when to ask again (us since 1970), '' none; us until then;
--   how many were let out}
-- include: sound
-- include: head
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
-- include: lanes/lib/out
-- include: lanes/lib/turns
-- include: lanes/lib/alarm
local come, ended = {}, {}
for i = 3, #ARGV do
  local told = i - 2 <= whole(ARGV[2]) and come or ended
  told[#told + 1] = ARGV[i]
end
if #ARGV > 2002 then error('too many jobs') end
count_out(come, ended)
-- While jobs are quick, further ahead: 64 at a time would keep consumers waiting.
window = math.min(512, math.max(window, 2 * #come))
local more, out = take_turns(ended)
local at, left = unpack(alarm(ARGV[1], more))
return {at, left, out}
