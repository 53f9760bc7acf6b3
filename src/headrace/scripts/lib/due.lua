-- The instant (ms) that a due says: '' now, '+ms' from now, '@ms' since 1970; 0 for now. From now is a
-- millisecond more: this one has begun already, and a job is never early.
local function due_at(due, now)
  if due == '' then return 0 end
  local ms = whole(string.sub(due, 2))
  return string.sub(due, 1, 1) == '+' and ms > 0 and now + 1 + ms or ms
end
