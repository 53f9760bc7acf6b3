-- A claim's value is its token, a space, and the job's bytes.
local function held(value)
  if not value then return nil end
  local space = string.find(value, ' ', 1, true)
  return string.sub(value, 1, space - 1), string.sub(value, space + 1)
end
