-- Leaves how a job ended for whoever waits for it: a list of one element, which is not taken out.
-- ``more``: a run of a job that goes on. Such runs stay, the last nine; the one in its end is the tenth.
local function tell(list, bytes, ttl, more)
  if not more or redis.call('TYPE', list).ok ~= 'list' then redis.call('DEL', list) end
  if redis.call('RPUSH', list, bytes) > 9 then redis.call('LTRIM', list, -9, -1) end
  redis.call('PEXPIRE', list, ttl)
end
