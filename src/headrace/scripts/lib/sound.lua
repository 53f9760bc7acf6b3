-- All that a script is given is looked at before its first write: one that fails half way is not
-- rolled back. Each key has to be there, and of the type that this command reads.
local function sound(...)
  for i, length in ipairs({...}) do redis.call(length, KEYS[i]) end
end

-- A whole number of ARGV, from low (0) to 2^53; neither 'nan' nor 'inf', which tonumber takes too.
local function whole(text, low)
  local n = tonumber(text)
  if n and n % 1 == 0 and n >= (low or 0) and n <= 2 ^ 53 then return n end
  error('no whole number: ' .. tostring(text))
end
