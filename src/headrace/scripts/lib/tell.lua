-- Leaves how a job ended for whoever waits for it: a list of one element, which is not taken out.
local function tell(result, bytes, ttl)
  redis.call('DEL', result)
  redis.call('RPUSH', result, bytes)
  redis.call('PEXPIRE', result, ttl)
end
