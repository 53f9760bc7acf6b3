-- Frees the key of jobs that are over (id -> true): only if it names one of them, for by now another
-- job may have it. What is of another type is not ours, and must not stop a script half way.
local function release(unique, over)
  local held = redis.pcall('GET', unique)
  local id = type(held) == 'string' and string.match(held, '^[^ ]+')
  if id and over[id] then redis.call('DEL', unique) end
end
