#!lua
-- Enqueues the jobs of ticks, once, where their schedule is on another node: ``tick`` follows.
-- KEYS 1 ticks (hash): schedule -> the last tick that was fired here 2 pending (list) 3 priority (zset)
--      4 delayed (zset) 5 nudge (list) 6 stats (hash)
-- ARGV 1 name 2 for how long that is remembered (ms) 3… for each tick, in their order: the tick (ms), its job
-- Returns how many are new: those up to the last one have been fired already
-- include: sound
-- include: head
-- include: place
local ticks, pending, priority, delayed, nudge, stats = unpack(KEYS)
local name, ttl = ARGV[1], whole(ARGV[2], 1)
sound('HLEN')
waiting(pending, priority, delayed, nudge)
redis.call('HLEN', stats)
local last, new = tonumber(redis.call('HGET', ticks, name) or '-1'), {}
for i = 3, #ARGV, 2 do
  if not id_of(ARGV[i + 1] or '') then error('a job without an id') end
  if whole(ARGV[i]) > last then new[#new + 1], last = ARGV[i + 1], whole(ARGV[i]) end
end
if #new > 1000 then error('too many ticks') end
for _, job in ipairs(new) do place(job, pending, priority, nudge, stats) end
if #new > 0 then
  redis.call('HINCRBY', stats, 'enqueued', #new)
  redis.call('HSET', ticks, name, number(last))
end
redis.call('PEXPIRE', ticks, ttl)
return #new
