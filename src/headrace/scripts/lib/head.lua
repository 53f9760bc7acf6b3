-- A job's head is {"id":"…" and then, each only where it is not 0 and in this order, "priority",
-- "delivery", "crashes", "attempt", "unknown_since", "key". Scripts read and write the head alone; the
-- rest is opaque bytes.
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

-- A number of the head that would stand behind `at`, and where it ends; 0 and `at` when there is
-- none: 1.5, 1e3 and what has more than 9 digits belong to the body (as _HEAD in wire.py has it).
local function counter(job, at, pattern)
  local _, stop, digits = string.find(job, pattern, at + 1)
  local n = tonumber(digits)
  if n and #string.gsub(digits, '-', '') < 10 and string.find(job, '^[,}]', stop + 1) then return n, stop end
  return 0, at
end

local function priority_of(job)
  local id, at = id_of(job)
  if not id then return 0 end
  return counter(job, at, '^,"priority":(%-?%d+)')
end

-- The job as it goes back from processing: delivery one more, crashes more by `crash`.
local function returned(job, crash)
  local _, at = priority_of(job)
  local front, delivery, crashes = string.sub(job, 1, at), 0, 0
  delivery, at = counter(job, at, '^,"delivery":(%d+)')
  crashes, at = counter(job, at, '^,"crashes":(%d+)')
  crashes = crashes + crash
  front = front .. ',"delivery":' .. number(delivery + 1)
  if crashes > 0 then front = front .. ',"crashes":' .. number(crashes) end
  return front .. string.sub(job, at + 1), crashes
end

-- The key that is free again when the job ends, or nil. The job has an id: a bare item has no key.
local function key_of(job)
  local _, at = priority_of(job)
  for _, name in ipairs({'delivery', 'crashes', 'attempt'}) do
    _, at = counter(job, at, '^,"' .. name .. '":(%d+)')
  end
  local _, stop, digits = string.find(job, '^,"unknown_since":(%d+)', at + 1)
  if digits and #digits < 16 then at = stop end
  return string.match(job, '^,"key":"([]-~ !#-[]+)"[,}]', at + 1)
end
