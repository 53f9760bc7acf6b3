#!lua flags=allow-oom
-- Notes how far running jobs are, each only under its current claim.
-- KEYS 1 claims (hash) 2… progress (string), one for each job, in their order
-- ARGV 1 consumer 2 how long it is kept (ms), then for each job: id; claim number; a JSON object
--      without its last brace
-- Returns the ids that were lost: claimed by somebody else since, or over. Nothing changed for them.
-- include: sound
-- include: now
-- include: held
local claims = unpack(KEYS)
sound('HLEN')
local ttl, ids = whole(ARGV[2], 1), {}
for i = 3, #ARGV, 3 do
  ids[#ids + 1] = ARGV[i]
  whole(ARGV[i + 1])
end
if #ids ~= #KEYS - 1 or #ARGV % 3 ~= 2 then error('no key for each job') end
local values, now, lost = redis.call('HMGET', claims, unpack(ids)), now_ms(), {}
for n, id in ipairs(ids) do
  if held(values[n]) == ARGV[1] .. ':' .. ARGV[3 * n + 1] then
    local told = ARGV[3 * n + 2] .. ',"at_ms":' .. string.format('%.0f', now) .. '}'
    redis.call('SET', KEYS[n + 1], told, 'PX', ttl)
  else
    lost[#lost + 1] = id
  end
end
return lost
