-- The dead letter of a job that lost too many consumers, or nil: it is no JSON object.
local function letter(job, owner, crashes, now)
  local body = string.match(job, '^(.*)}%s*$')
  return body and body .. ',"error":{"reason":"crashed","type":"","message":"its consumer was lost '
    .. number(crashes) .. ' times while it ran","traceback":"","failed_at":' .. number(now)
    .. ',"consumer":"' .. (string.match(owner, '^[%w.-]+') or '-') .. '"}}'
end
