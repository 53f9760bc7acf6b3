#!lua flags=allow-oom
-- Tells which of these jobs have ended, and how: all it can within about 1 MiB.
-- KEYS 1… result (list), one for each job
-- ARGV none
-- Returns {how many were looked at, then for each that has ended: its place among the keys, its end}
local answer, bytes = {#KEYS}, 0
for place, result in ipairs(KEYS) do
  local ended = redis.call('LINDEX', result, 0)
  if ended then
    answer[#answer + 1], answer[#answer + 2] = place, ended
    bytes = bytes + #ended
    if bytes > 1048576 then
      answer[1] = place
      break
    end
  end
end
return answer
