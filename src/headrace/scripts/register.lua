#!lua flags=allow-oom
-- Notes names in a registry. A full Redis must not refuse it: what nobody knows of, nobody keeps.
-- KEYS 1 registry (set)
-- ARGV names
-- Returns how many are new
local registry = unpack(KEYS)
return redis.call('SADD', registry, unpack(ARGV))
