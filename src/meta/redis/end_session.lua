-- Ends a session: its locks, and where it keeps nothing open its records, and if it is the caller's
-- own its clients' sequences. ARGV: session id, unix seconds, 1 if the caller serves the session.
-- KEYS: allSessions, sessionInfos, sessions (of old clients), hash of clients' sequences.
-- Gives the inodes the session keeps open.
local sid, own = ARGV[1], ARGV[1] .. '_'
local prefix = string.match(KEYS[1], '^{%d+}') or ''
local function own_fields(key)
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, #own) == own then found[#found + 1] = field end
  end
  return found
end
for _, key in ipairs(redis.call('SMEMBERS', prefix .. 'locked' .. sid)) do
  for _, field in ipairs(own_fields(key)) do redis.call('HDEL', key, field) end
end
redis.call('DEL', prefix .. 'locked' .. sid)
local kept = redis.call('SMEMBERS', prefix .. 'session' .. sid)
if #kept > 0 then return kept end
redis.call('ZREM', KEYS[1], sid)
redis.call('HDEL', KEYS[2], sid)
redis.call('ZREM', KEYS[3], sid)
-- A client whose session another client has ended may only have been away, with a batch that is
-- applied and not answered: its sequence stays a day longer, for nobody sends a batch for so long.
-- So do those of clients without a session (commands), which tell when they began.
local today, marks, done = tonumber(ARGV[2]), {}, {}
for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
  local session, begun = string.match(field, '^(%d+)_%x+_(%d+)')
  if string.match(field, '^%d+_ended$') then
    marks[#marks + 1] = field
  elseif not session or session == sid and ARGV[3] == '1' or session == '0' and tonumber(begun) < today - 86400 then
    done[#done + 1] = field
  elseif session ~= '0' and not redis.call('ZSCORE', KEYS[1], session) then
    local mark = session .. '_ended'
    redis.call('HSETNX', KEYS[4], mark, today)
    if tonumber(redis.call('HGET', KEYS[4], mark)) < today - 86400 then done[#done + 1] = field end
  end
end
for _, mark in ipairs(marks) do
  local old = tonumber(redis.call('HGET', KEYS[4], mark)) < today - 86400
  if old or redis.call('ZSCORE', KEYS[1], string.match(mark, '^%d+')) then done[#done + 1] = mark end
end
for _, field in ipairs(done) do redis.call('HDEL', KEYS[4], field) end
return kept
