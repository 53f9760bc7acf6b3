#!lua flags=allow-oom
-- Pauses a queue, so that nothing more is claimed, or resumes it and wakes idle consumers.
-- KEYS 1 meta (hash) 2 nudge (list)
-- ARGV 1 '1' pause, '0' resume
-- Returns whether that changed anything (0, 1)
-- include: sound
local meta, nudge = unpack(KEYS)
sound('HLEN', 'LLEN')
if ARGV[1] == '1' then return redis.call('HSETNX', meta, 'paused', 1) end
local changed = redis.call('HDEL', meta, 'paused')
for _ = 1, changed * 100 do redis.call('LPUSH', nudge, '') end
if changed == 1 then
  redis.call('LTRIM', nudge, 0, 999)
  redis.call('PEXPIRE', nudge, 60000)
end
return changed
