#!lua flags=allow-oom
-- Reads jobs that wait in lanes, lane by lane, about 1 MiB at most.
-- KEYS 1 limited (hash) 2 lanes (zset)
-- ARGV 1 offset 2 limit (jobs, <= 1000)
-- Returns the jobs' bytes
-- include: sound
local limited, lanes = unpack(KEYS)
local offset, most, jobs, bytes = whole(ARGV[1]), whole(ARGV[2]), {}, 0
sound('HLEN', 'ZCARD')
for _, member in ipairs(redis.call('ZRANGE', lanes, offset, offset + math.min(most, 1000) - 1)) do
  local id = string.match(member, '^%S+ ' .. string.rep('%d', 15) .. '(.*)$')
  local job = string.match(redis.call('HGET', limited, id or '') or '', '^%S+ %d+ (.*)$')
  if job and bytes < 1048576 then
    jobs[#jobs + 1] = job
    bytes = bytes + #job
  end
end
return jobs
