#!lua flags=allow-oom
-- Forgets which queues workflows use, when every workflow is over: then nobody has to look at them.
-- KEYS 1 homes (set): those queues 2… unfinished (zset), of each of them
-- ARGV none
-- Returns 1; 0: a workflow is not over, or has come from elsewhere, and nothing changed
-- include: sound
sound('SCARD')
if redis.call('SCARD', KEYS[1]) ~= #KEYS - 1 then return 0 end
for i = 2, #KEYS do
  if redis.call('ZCARD', KEYS[i]) > 0 then return 0 end
end
return redis.call('DEL', KEYS[1])
