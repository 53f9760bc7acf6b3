#!lua
-- Accepts a job that was handed on in a queue on another node, once.
-- KEYS 1 pending (list) 2 priority (zset) 3 delayed (zset) 4 nudge (list) 5 stats (hash)
--      6 forwarded (string): it is there if the job has come before 7 unique (string), only with a key
-- ARGV 1 due: '' now, '+ms' from now, '@ms' since 1970 2 its id 3 key_ttl (ms; 0: until it ends)
--      4 how long it is remembered (ms) 5 its bytes
-- Returns 'ok'; 'exists': another job has the key; 'before': it has come before
-- include: sound
-- include: now
-- include: due
-- include: head
-- include: place
-- include: postpone
-- include: workflows/lib/accept
local forwarded, unique = KEYS[6], KEYS[7]
local ttl, remembered = whole(ARGV[3]), whole(ARGV[4], 1)
if not ARGV[5] then error('no job') end
can_accept(1)
if redis.call('EXISTS', forwarded) == 1 then return 'before' end
local now = now_ms()
local at = due_at(ARGV[1], now)
-- As enqueue has it: such a key goes with its job, or a week after that is due.
if ttl == 0 then ttl = math.max(0, at - now) + 604800000 end
redis.call('SET', forwarded, '', 'PX', remembered)
if unique and not redis.call('SET', unique, ARGV[2], 'NX', 'PX', number(ttl)) then return 'exists' end
accept(1, at, ARGV[5], now)
return 'ok'
