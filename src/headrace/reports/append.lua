#!lua
-- Adds items to the stream of a running job, under its current claim alone. Refused by a full Redis: the
-- job waits. Each has the id run-number, so that those that are there already are passed over.
-- KEYS 1 claims (hash) 2 stream (stream)
-- ARGV 1 id 2 token 3 run (the job's delivery) 4 number of the first item, from 1 5 number of the first
--      one to keep 6 how long it is kept (ms), then for each item: field; value
--   fields: i an item (JSON), e the end of the run
-- Returns 'ok', or 'lost': another has the job by now, or it is over. Nothing changed.
-- include: sound
-- include: held
local claims, stream = unpack(KEYS)
sound('HLEN', 'XLEN')
local run, first, keep, ttl = whole(ARGV[3]), whole(ARGV[4], 1), whole(ARGV[5], 1), whole(ARGV[6], 1)
if #ARGV % 2 ~= 0 or #ARGV < 8 then error('no value for each field') end
local token = held(redis.call('HGET', claims, ARGV[1]))
if token ~= ARGV[2] then return 'lost' end
local last, done = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1], 0
if last then
  local of, number = string.match(last[1], '^(%d+)-(%d+)$')
  if tonumber(of) == run then
    done = tonumber(number)
  else
    redis.call('DEL', stream)  -- of another run: this one begins anew
  end
end
for n = math.max(0, done - first + 1), (#ARGV - 6) / 2 - 1 do
  local id = string.format('%.0f-%.0f', run, first + n)
  redis.call('XADD', stream, id, ARGV[7 + 2 * n], ARGV[8 + 2 * n])
end
if keep > 1 then redis.call('XTRIM', stream, 'MINID', string.format('%.0f-%.0f', run, keep)) end
redis.call('PEXPIRE', stream, ttl)
return 'ok'
