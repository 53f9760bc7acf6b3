#!lua flags=allow-oom
-- Puts a schedule there: a new one, or another definition for one that is there, which stays paused if it is.
-- KEYS 1 schedules (hash) 2 due (zset) 3 state (hash)
-- ARGV 1 name 2 definition (<= 64 KiB) 3 SHA-1 of the definition that it replaces; '' it is new
--      4 its next tick (ms) 5 whether that stays as it is, if it has one (0, 1)
--      6 whether an application declares it (0, 1)
-- Returns 'ok', or 'conflict': meanwhile somebody else has put, changed or removed it
-- include: sound
-- include: now
local schedules, due, state = unpack(KEYS)
local name, definition, following = ARGV[1], ARGV[2], whole(ARGV[4])
local keeps, declared = whole(ARGV[5]) == 1, whole(ARGV[6]) == 1
sound('HLEN', 'ZCARD', 'HLEN')
if #definition > 65536 or #name > 1024 then error('a schedule that is too large') end
local before = redis.call('HGET', schedules, name)
if (before and redis.sha1hex(before) or '') ~= ARGV[3] then return 'conflict' end
local sane, seen = pcall(cjson.decode, before and redis.call('HGET', state, name) or '{}')
if not sane or type(seen) ~= 'table' then seen = {} end

redis.call('HSET', schedules, name, definition)
if seen.paused then redis.call('ZREM', due, name)
elseif not (keeps and redis.call('ZSCORE', due, name)) then redis.call('ZADD', due, following, name) end
if declared then seen.declared_at = now_ms() end
redis.call('HSET', state, name, cjson.encode(seen))
return 'ok'
