-- A job's head is {"id":"…" and then, each only where it is not 0 and in this order, "priority",
-- "delivery", "crashes". Scripts read and write the head alone; the rest is opaque bytes.
-- An id is printable ASCII without space, " and \, at most 128 long; "~" begins a bare item's lease.
local ID = '^{"id":"([]-}!#-[][]-~!#-[]*)"'

-- The id and where it ends, or nil: then the item is bare, and whoever claims it has to adopt it.
local function id_of(job)
  local _, stop, id = string.find(job, ID)
  if id and #id <= 128 and string.find(job, '^[,}]', stop + 1) then return id, stop end
end

local function number(n) return string.format('%.0f', n) end  -- tostring turns 1e15 into '1e+15'

-- The same job under an id that nothing else has, for an equal job is there already.
local function renamed(job, stats)
  local id, stop = id_of(job)
  local n = redis.call('HINCRBY', stats, 'renamed', 1)
  return '{"id":"' .. string.sub(id, 1, 100) .. '.' .. number(n) .. '"' .. string.sub(job, stop + 1)
end

-- The job as it goes back from processing: delivery one more, crashes more by `crash`.
local function returned(job, crash)
  local _, at = id_of(job)
  local _, stop = string.find(job, '^,"priority":%-?%d+', at + 1)
  at = stop or at
  local front = string.sub(job, 1, at)
  local _, after, delivery = string.find(job, '^,"delivery":(%d+)', at + 1)
  at = after or at
  local _, last, crashes = string.find(job, '^,"crashes":(%d+)', at + 1)
  at = last or at
  crashes = (tonumber(crashes) or 0) + crash
  front = front .. ',"delivery":' .. number((tonumber(delivery) or 0) + 1)
  if crashes > 0 then front = front .. ',"crashes":' .. number(crashes) end
  return front .. string.sub(job, at + 1), crashes
end
