#!lua flags=allow-oom
-- Forgets a batch that has arrived on another server, and frees the keys that its jobs had here.
-- KEYS 1 moving (list) 2… unique (string)
-- ARGV 1 the batch's name, 2… ids of its jobs that have a key
-- Returns 1; 0: that batch has left before
-- include: release
local moving, over = KEYS[1], {}
if redis.call('LINDEX', moving, 0) ~= ARGV[1] then return 0 end
for i = 2, #ARGV do over[ARGV[i]] = true end
for i = 2, #KEYS do release(KEYS[i], over) end
redis.call('DEL', moving)
return 1
