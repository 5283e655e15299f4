-- Ends a session: its locks, and where it keeps nothing open its records and its clients'
-- sequences. ARGV: session id, unix seconds.
-- KEYS: allSessions, sessionInfos, sessions (of old clients), hash of clients' sequences.
-- Gives the inodes the session keeps open.
local sid, own = ARGV[1], ARGV[1] .. '_'
local function own_fields(key)
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, #own) == own then found[#found + 1] = field end
  end
  return found
end
for _, key in ipairs(redis.call('SMEMBERS', 'locked' .. sid)) do
  for _, field in ipairs(own_fields(key)) do redis.call('HDEL', key, field) end
end
redis.call('DEL', 'locked' .. sid)
local kept = redis.call('SMEMBERS', 'session' .. sid)
if #kept > 0 then return kept end
redis.call('ZREM', KEYS[1], sid)
redis.call('HDEL', KEYS[2], sid)
redis.call('ZREM', KEYS[3], sid)
-- Clients whose session another client has ended, or that had none (commands), go when begun a day
-- ago: nobody sends a batch for so long.
for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
  local session, begun = string.match(field, '^(%d+)_%x+_(%d+)')
  if session == sid then
    redis.call('HDEL', KEYS[4], field)
  elseif not redis.call('ZSCORE', KEYS[1], session or '') and (tonumber(begun) or 0) < tonumber(ARGV[2]) - 86400 then
    redis.call('HDEL', KEYS[4], field)
  end
end
return kept
