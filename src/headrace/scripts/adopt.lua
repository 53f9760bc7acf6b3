#!lua flags=allow-oom
-- Leases a bare item that its caller moved to processing, under its canonical bytes; or renews (and
-- perhaps rewrites) what the caller holds already. Repeating it changes nothing.
-- KEYS 1 pending (list) 2 processing (list) 3 leases (zset) 4 claims (hash) 5 stats (hash)
--      6 meta (hash) 7 cancelled (zset) 8 unique (string), if the job has a key: where
--      its canonical bytes have none any more, it is free from now on
-- ARGV 1 token 2 lease (ms) 3 the bytes as moved 4 id 5 the canonical bytes, with that id
--      6 '1': its task runs already, for the queue was not paused when the item was moved
-- Returns 'ok'; 'lost': no longer there; 'duplicate': the id is in use, take another;
--   'paused': put back to pending; 'cancelled': taken out
-- include: sound
-- include: now
-- include: head
-- include: held
-- include: numbered
-- include: release
local pending, processing, leases, claims, stats, meta, cancelled = unpack(KEYS)
local token, lease, moved, id, job = ARGV[1], whole(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
sound('LLEN', 'LLEN', 'ZCARD', 'HLEN', 'HLEN', 'HLEN', 'ZCARD')
if id_of(job) ~= id then error('not the id of these bytes') end

local owner, bytes = held(redis.call('HGET', claims, id))
local mine = owner == token
local present = mine and bytes or moved
if not mine then
  -- Equal bytes may stand there twice: once under their owner's lease, once bare.
  local copies = #redis.call('LPOS', processing, moved, 'COUNT', 2)
  local holder, its = held(redis.call('HGET', claims, id_of(moved) or ''))
  if holder and holder ~= '-' and its == moved then copies = copies - 1 end
  if copies <= 0 then return 'lost' end  -- less than 0: its owner's is gone too
  if owner and not (owner == '-' and bytes == moved) then return 'duplicate' end
end

-- The sweep may have leased the item under its digest, or under an id that was then in use: that
-- lease goes with it. It is the last one that goes: were it the first, adoptions of equal items would
-- put off the end of another's for ever.
local function forget_given()
  local digest, count = numbered(claims, moved)
  if not surplus(processing, claims, moved, count) then return end
  local last = count > 0 and digest .. count or id_of(moved)
  if held(redis.call('HGET', claims, last)) == '-' then drop_numbered(leases, claims, last, last) end
end
if not mine and ARGV[6] ~= '1' then
  local paused = redis.call('HGET', meta, 'paused')
  local stop = redis.call('ZSCORE', cancelled, id)
  if paused or stop then
    redis.call('LREM', processing, 1, moved)
    forget_given()
    if not stop then
      redis.call('RPUSH', pending, moved)
      return 'paused'
    end
    redis.call('HINCRBY', stats, 'cancel', 1)
    if KEYS[8] then release(KEYS[8], {[id] = true}) end
    return 'cancelled'
  end
end

if present == job then
  if not redis.call('LPOS', processing, job) then return 'lost' end
else
  if redis.call('LREM', processing, 1, present) == 0 then return 'lost' end
  redis.call('LPUSH', processing, job)
end
redis.call('HSET', claims, id, token .. ' ' .. job)
redis.call('ZADD', leases, now_ms() + lease, id)
if not owner then forget_given() end
if KEYS[8] and not key_of(job) then release(KEYS[8], {[id_of(moved) or ''] = true}) end
return 'ok'
