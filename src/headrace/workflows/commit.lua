#!lua flags=allow-oom
-- Ends a claim as settle does, together with what follows from it: all of that, or nothing.
-- KEYS 1 processing (list) 2 dead (list) 3 leases (zset) 4 claims (hash) 5 stats (hash)
--      6 cancelled (zset) 7 result (list) 8 unique (string): the key that the job has
--      then, only if it belongs to a workflow, that one's: hash (hash); ended (string); results (hash); rest
--      (list); unfinished (zset); told (list); then of each queue of that workflow, and that jobs are handed
--      on to: pending (list); priority (zset); delayed (zset); nudge (list); stats (hash); then the unique
--      keys (string) that such jobs take, or what is set with them, in turn
-- ARGV 1 consumer 2 id 3 claim number (negative: its item is nearer to the tail of processing)
--      4 verb: done, or dead drop cancel, which hand on at most the word of their end 5 letter, for dead
--      6 result_ttl (ms; 0 none) 7 result 8 its number in its workflow, '' if there is none; what that is
--      to know: 9 its result, '' for nothing 10 how it failed, '' if it did not, both as JSON
--      11 how many queues 12 how many jobs, then for each job: number of its queue, from 0; due: '' now,
--      '+ms' or '@ms'; its id if it takes a key (or what is set), else ''; key_ttl (ms; 0: until it ends); bytes
-- Returns {}, or {id}: it was lost, and nothing changed. So it is when this is repeated.
-- include: sound
-- include: now
-- include: due
-- include: head
-- include: held
-- include: place
-- include: postpone
-- include: release
-- include: tell
-- include: workflows/lib/accept
-- include: workflows/lib/advance
-- include: workflows/lib/ended
local processing, dead, leases, claims, stats, cancelled, result, unique = unpack(KEYS)
local id, claim, verb, ttl = ARGV[2], tonumber(ARGV[3]), ARGV[4], whole(ARGV[6])
local member = ARGV[8] ~= '' and whole(ARGV[8])
local names, count, FIRST, now = whole(ARGV[11]), whole(ARGV[12]), member and 15 or 9, now_ms()
local ENDS = {done = true, dead = true, drop = true, cancel = true}
if not ENDS[verb] or claim % 1 ~= 0 or count > 1000 then error('no outcome') end
if count > 1 and verb ~= 'done' then error('only who is done hands on') end
-- Each key that will be written is read before the first write: of a wrong type it fails here.
redis.call('ZCARD', leases) redis.call('HLEN', stats)
if verb == 'dead' then redis.call('LLEN', dead) end
local stops = redis.call('ZCARD', cancelled) > 0
for q = 0, count > 0 and names - 1 or -1 do can_accept(FIRST + 5 * q) end
local jobs, taken = {}, FIRST + 5 * names
for base = 12, 11 + 5 * count, 5 do
  local one = {to = whole(ARGV[base + 1]), due = ARGV[base + 2], id = ARGV[base + 3], job = ARGV[base + 5]}
  one.due_at, one.key_ttl = due_at(one.due, now), whole(ARGV[base + 4])
  if one.to >= names or not one.job then error('no job at ' .. base) end
  if one.id ~= '' then one.key, taken = KEYS[taken], taken + 1 end
  jobs[#jobs + 1] = one
end

local side = claim < 0 and -1 or 1
local owner, job = held(redis.call('HGET', claims, id))
local ours = owner == ARGV[1] .. ':' .. number(claim * side)
local there = ours and redis.call('LPOS', processing, job, 'RANK', side)
local flow = there and member and looked_at(9, FIRST, names, member)
-- First, for what is handed on may take it. The name of none ends with ':'.
if ours and string.sub(unique, -1) ~= ':' then release(unique, {[id] = true}) end
if there then
  for _, one in ipairs(jobs) do
    -- As enqueue has it: such a key goes with its job, or a week after that is due.
    local life = one.key_ttl > 0 and one.key_ttl or math.max(0, one.due_at - now) + 604800000
    if not one.key or redis.call('SET', one.key, one.id, 'NX', 'PX', number(life)) then
      accept(FIRST + 5 * one.to, one.due_at, one.job, now)
    end
  end
  if flow then note_end(flow, ARGV[9], ARGV[10], now) end
  if verb == 'dead' then redis.call('LPUSH', dead, ARGV[5]) end
  redis.call('LREM', processing, side, job)
  if stops and verb ~= 'cancel' then redis.call('ZREM', cancelled, id) end
  if ttl > 0 then tell(result, ARGV[7], ttl) end
  redis.call('HINCRBY', stats, verb, 1)
end
if ours then  -- also when its item is gone: a plain LREM took it
  redis.call('HDEL', claims, id)
  redis.call('ZREM', leases, id)
end
if there then return {} end
redis.call('HINCRBY', stats, 'lost', 1)
return {id}
