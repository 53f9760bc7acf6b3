#!lua flags=allow-oom
-- Takes or keeps the lead: one process at a time sweeps and promotes.
-- KEYS 1 leader (string)
-- ARGV 1 who asks 2 lease (ms; 0 gives the lead up)
-- Returns who leads now; '' nobody
local leader = KEYS[1]
local now = redis.call('GET', leader)
if now and now ~= ARGV[1] then return now end
if ARGV[2] == '0' then
  redis.call('DEL', leader)
  return ''
end
redis.call('SET', leader, ARGV[1], 'PX', ARGV[2])
return ARGV[1]
