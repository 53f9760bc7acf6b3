#!lua flags=allow-oom
-- Tells which commands the user of this connection may not give. Runs none of them.
-- KEYS every key that stands in one of them
-- ARGV for each command: how many words it has; its words
-- Returns the places of the refused ones, from 0
local refused, i, place = {}, 1, 0
while i <= #ARGV do
  local count = tonumber(ARGV[i])
  if not redis.acl_check_cmd(unpack(ARGV, i + 1, i + count)) then refused[#refused + 1] = place end
  i, place = i + 1 + count, place + 1
end
return refused
