#!lua
-- Starts a workflow: writes down what it is, and opens the first members.
-- KEYS 1 hash (hash) 2 ended (string) 3 results (hash) 4 rest (list) 5 unfinished (zset) 6 told (list)
--      7 begun (string): '' if a job has handed it on, and it has begun; before, how many members it will have
--      8… of each queue that it uses (on a cluster of its home): pending (list); priority (zset); delayed (zset);
--      nudge (list); stats (hash)
-- ARGV 1 id 2 how many wait for nobody: fill has brought them 3 stop or continue, at a dead member
--      4 how long it is kept when it is over (ms) 5 window: so many members at once 6 how many to open
--      7 last: parts of its result 8 edges 9 max_pending (0: no bound) 10 for how long it is
--      remembered that it has begun (ms; 0: not beyond its hash) 11 how many queues, then their names, as its hash has them, and for each that waits for others: its number; for how many it waits; its record
-- Returns {'ok'}, {'full', waiting}; {'exists'}, {'incomplete'}: nothing changed
-- include: sound
-- include: now
-- include: due
-- include: head
-- include: place
-- include: postpone
-- include: tell
-- include: workflows/lib/accept
-- include: workflows/lib/advance
local hash, ended, results, rest, unfinished, told, begun = unpack(KEYS)
local id, count, policy, keep = ARGV[1], whole(ARGV[2], 1), ARGV[3], whole(ARGV[4], 1)
local window, most, bound, remembered = whole(ARGV[5], 1), whole(ARGV[6], 1), whole(ARGV[9]), whole(ARGV[10])
local names, FIRST, total, now = whole(ARGV[11], 1), 8, count, now_ms()
if policy ~= 'stop' and policy ~= 'continue' or most > 1000 then error('no workflow') end
sound('EXISTS', 'STRLEN', 'HLEN', 'LLEN', 'ZCARD', 'LLEN')
local members = {}
for i = 12 + names, #ARGV, 3 do
  whole(ARGV[i])
  members[#members + 1] = 'need:' .. ARGV[i]
  members[#members + 1] = whole(ARGV[i + 1], 1)
  members[#members + 1] = 'node:' .. ARGV[i]
  members[#members + 1] = ARGV[i + 2]
  total = total + 1
end
for q = 0, (#KEYS - 7) / 5 - 1 do
  local before = can_accept(FIRST + 5 * q)
  if bound > 0 and before + most > bound then return {'full', before} end
end
if redis.call('EXISTS', hash) == 1 or redis.call('GET', begun) == '' then return {'exists'} end
if redis.call('LLEN', rest) ~= count then return {'incomplete'} end

redis.call('HSET', hash, 'id', id, 'state', 'running', 'policy', policy, 'keep', number(keep),
  'total', number(total), 'left', number(total), 'window', number(window), 'failed', 0,
  'size', 0, 'last', ARGV[7], 'edges', ARGV[8], 'began', number(now),
  'queues', table.concat(ARGV, ' ', 12, 11 + names))
if remembered > 0 then redis.call('SET', begun, '', 'PX', number(remembered)) end
if #members > 0 then redis.call('HSET', hash, unpack(members)) end
redis.call('PERSIST', rest)
redis.call('ZADD', unfinished, now, id)
local flow = {at = 1, first = FIRST, rest = count, window = window, running = 0}
open_rest(flow, most, now)
redis.call('HSET', hash, 'running', flow.running)
return {'ok'}
