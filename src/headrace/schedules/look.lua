#!lua flags=allow-oom
-- Tells which schedules have a tick that is due, and when the next one of the others is. Changes nothing.
-- KEYS 1 schedules (hash) 2 due (zset)
-- ARGV 1 limit (schedules, <= 1000)
-- Returns {now (ms), when the next of the others is due (ms; '' none), {{name, due (ms), definition ('' none)}, …}}
-- include: sound
-- include: now
local schedules, due = unpack(KEYS)
local limit, now, found = whole(ARGV[1], 1), now_ms(), {}
if limit > 1000 then error('too many schedules') end
sound('HLEN', 'ZCARD')
local names = redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
for i = 1, #names, 2 do
  found[#found + 1] = {names[i], names[i + 1], redis.call('HGET', schedules, names[i]) or ''}
end
local next = redis.call('ZRANGE', due, '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
return {now, next[2] or '', found}
