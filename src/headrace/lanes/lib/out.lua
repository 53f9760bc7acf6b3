-- Lets one job out: to `priority`, between what has a positive priority and 0, in the order in which jobs are
-- let out. The score says the number, and so whether one still waits there.
local function score_of(number) return string.format('%.17g', number / 2 ^ 40 - 1) end

local TURN = '^(%S+) ' .. string.rep('%d', 15) .. '(.*)$'
local function turn_of(member) return string.match(member, TURN) end

-- Answers its size; 0 if the turn is one of a job that is gone.
local function let_out(member, found)
  local lane, id = turn_of(member)
  local _, _, job = waits(id)
  if job then
    local number = string.format('%.0f', redis.call('HINCRBY', stats, 'admitted', 1))
    job = permitted(job, lane, number)
    while redis.call('ZADD', priority, 'NX', score_of(number), job) == 0 do job = renamed(job, stats) end
    local told, rated, counted = lane .. ' ' .. number .. ' ' .. id_of(job), false, false
    for _, one in ipairs(found) do
      one.tokens, one.free, one.used = one.tokens - 1, one.free - 1, one.used + 1
      rated, counted = rated or one.rate > 0, counted or one.most > 0
    end
    if rated then redis.call('ZADD', admitted, 0, told) end
    if counted then redis.call('ZADD', slots, 0, told) end
    redis.call('HDEL', limited, id)
  end
  redis.call('ZREM', lanes, member)
  return job and #job or 0
end

-- What waits in the list has its turn as well, or it would wait until all lanes are empty.
local function let_past()
  local job = redis.call('LINDEX', pending, -1)
  if not job then return 0 end
  local number = redis.call('HINCRBY', stats, 'admitted', 1)
  if redis.call('ZADD', priority, 'NX', score_of(number), job) == 0 then return 0 end
  redis.call('RPOP', pending)
  return 1
end
