-- Applies a batch of commits, one after the other, each all or nothing, and the batch at most once.
--
-- KEYS[1]  hash of clients: sequence (16 digits), unix seconds (12 digits), answer of the last batch
-- ARGV     client, sequence, unix seconds; then for each commit the number of its words and the words
-- Words    expectations with their index, '!', changes, '=', node keys to give back
-- Answer   for each commit  'A' and for each node asked for its length (u8) and record (0: none)
--                           'X' and the index (u16) of the expectation that does not hold
--                           'E', length (u16) and text of an error that names the damaged record
--
-- What commits of a batch change together (nodes, counters, statistics) is written once, at its end.
-- No 64-bit number becomes a Lua number: they go as text, or as two halves. Strings are compared for
-- equality only: their order depends on the server's locale.
local call, byte, char, sub, concat = redis.call, string.byte, string.char, string.sub, table.concat
local fields, pack = struct.unpack, struct.pack
local words = ARGV
local NONE8 = string.rep('\0', 8)

local seen = call('HGET', KEYS[1], words[1])
if seen then
  local last, this = tonumber(sub(seen, 1, 16)), tonumber(words[2])
  if last == this then return sub(seen, 29) end
  if last > this then return redis.error_reply('STALE a later batch of this client is applied') end
end
-- Whatever forbids writing (memory, a replica, a failing disk) is told here, before anything changes.
call('LPUSHX', KEYS[1] .. ':none', '')

-- Sums from here on are not collected: doubles hold those below exactly.
local LARGE = 4503599627370496
-- A commit that has the batch to itself writes at once what others collect.
local alone = #words == 4 + tonumber(words[4])
-- Nodes read or changed by this batch.
local nodes, changed = {}, {}
-- What counters move by.
local sums = {}
-- Directories: whether they have statistics, and what these move by.
local counted, moved = {}, {}

local function node(key)
  local record = nodes[key]
  if record == nil then
    record = call('GET', key)
    if record and #record < 72 then
      if #record < 63 then error({err = 'DAMAGED ' .. key .. ' has ' .. #record .. ' bytes'}) end
      record = record .. string.rep('\0', 72 - #record)
    end
    nodes[key] = record
  end
  return record
end

local function put(key, record)
  if not changed[key] then
    changed[key] = true
    changed[#changed + 1] = key
  end
  nodes[key] = record
end

local function whole(number)
  -- Shorter ones are exact as they are.
  if number < 100000000000000 and number > -100000000000000 then return tostring(number) end
  return string.format('%.0f', number)
end

-- Decimal text of two 32-bit halves.
local function decimal(high, low)
  if high < 2097152 then return whole(high * 4294967296 + low) end
  local quotient, rest = 0, 0
  for _, digit in ipairs({math.floor(high / 65536), high % 65536, math.floor(low / 65536), low % 65536}) do
    local value = rest * 65536 + digit
    quotient = quotient * 65536 + math.floor(value / 1000000000)
    rest = value % 1000000000
  end
  return whole(quotient) .. string.format('%09.0f', rest)
end

local function add(counter, text)
  if alone then return call('INCRBY', counter, text) end
  local sum = (sums[counter] or 0) + tonumber(text)
  if math.abs(sum) < LARGE then
    sums[counter] = sum
  else
    call('INCRBY', counter, text)
  end
end

-- Whether a counter + `more` <= `limit`; in two limbs, of which doubles hold the sum exactly.
local function fits(counter, more, limit)
  local high, low = 0, 0
  for index, text in ipairs({limit, call('GET', counter) or '0', whole(sums[counter] or 0), more}) do
    local sign, digits = index == 1 and -1 or 1, text
    if sub(text, 1, 1) == '-' then
      sign, digits = -sign, sub(text, 2)
    end
    high = high + sign * (tonumber(sub(digits, 1, -10)) or 0)
    low = low + sign * tonumber(sub(digits, -9))
  end
  return high * 1000000000 + low <= 0
end

-- Ranges of a record: offset, length, bytes each; offset 255 is the type.
local function ranges_hold(record, ranges)
  local at = 1
  while at < #ranges do
    local offset, length = byte(ranges, at, at + 1)
    local there
    if offset == 255 then
      there = char(math.floor(byte(record, 2) / 16))
    elseif offset == 71 and #record < 79 then
      there = NONE8
    else
      there = sub(record, offset + 1, offset + length)
    end
    if there ~= sub(ranges, at + 2, at + 1 + length) then return false end
    at = at + 2 + length
  end
  return true
end

local STATISTICS = {'dirDataLength', 'dirUsedSpace', 'dirUsedInodes'}

-- Move one of a directory's statistics, if it has any.
local function count(dir, which, text)
  if text == '0' then return end
  if counted[dir] == nil then counted[dir] = call('HEXISTS', 'dirUsedSpace', dir) == 1 end
  if not counted[dir] then return end
  if alone then return call('HINCRBY', STATISTICS[which], dir, text) end
  local moves = moved[dir]
  if not moves then
    moves = {0, 0, 0}
    moved[dir] = moves
  end
  local sum = moves[which] + tonumber(text)
  if math.abs(sum) < LARGE then
    moves[which] = sum
  else
    call('HINCRBY', STATISTICS[which], dir, text)
  end
end

local function write_count(dir)
  for which, sum in ipairs(moved[dir] or {}) do
    if sum ~= 0 then call('HINCRBY', STATISTICS[which], dir, whole(sum)) end
  end
  moved[dir] = nil
end

-- A directory's statistics begin or go: what comes later looks again.
local function recount(dir)
  write_count(dir)
  counted[dir] = nil
end

local function pages(high, low)
  return math.max(1, high * 1048576 + math.ceil(low / 4096))
end

-- A file's length moved, by two halves, and its space: the statistics of each directory that names
-- it follow, once for each name there.
local function count_growth(key, record, high, low, space)
  if fields('>I4', record, 48) == 0 then return end
  local parents = {decimal(fields('>I4I4', record, 64)), '1'}
  if parents[1] == '0' then parents = call('HGETALL', 'p' .. sub(key, 2)) end
  for at = 1, #parents, 2 do
    local dir, links = parents[at], tonumber(parents[at + 1])
    if links > 0 then
      count(dir, 1, whole(high * 4294967296 * links))
      count(dir, 1, whole(low * links))
      count(dir, 2, whole(space * links))
    end
  end
end

-- A file grew: usedSpace and the statistics of directories follow.
local function grown(key, record, old_high, old_low, high, low)
  local space = 0
  if math.floor(byte(record, 2) / 16) == 1 then
    space = (pages(high, low) - pages(old_high, old_low)) * 4096
  end
  if space ~= 0 then add('usedSpace', whole(space)) end
  count_growth(key, record, high - old_high, low - old_low, space)
end

local function later(stored, given)
  if given == '' or given == stored then return stored end
  local high, low, ns = fields('>i4I4I4', stored)
  local given_high, given_low, given_ns = fields('>i4I4I4', given)
  if given_high ~= high then return given_high > high and given or stored end
  if given_low ~= low then return given_low > low and given or stored end
  return given_ns > ns and given or stored
end

-- Whether the stored mtime is younger than allowed before `given`.
local function young(record, given, skip_s, skip_ns)
  local high, low, ns = fields('>i4I4I4', record, 24)
  local given_high, given_low, given_ns = fields('>i4I4I4', given)
  local seconds = (given_high - high) * 4294967296 + (given_low - low) - tonumber(skip_s)
  return seconds * 1000000000 + (given_ns - ns - tonumber(skip_ns)) < 0
end

local function patch(key, links, mtime, ctime, atime, length, skip_s, skip_ns)
  local record = node(key)
  if not record then return end
  local before = record
  if links ~= '0' then
    local count = fields('>I4', record, 48) + tonumber(links)
    count = math.min(math.max(count, 0), 4294967295)
    record = sub(record, 1, 47) .. pack('>I4', count) .. sub(record, 52)
  end
  if length ~= '' then
    local old_high, old_low = fields('>I4I4', record, 52)
    local high, low = fields('>I4I4', length)
    if high > old_high or high == old_high and low > old_low then
      record = sub(record, 1, 51) .. length .. sub(record, 60)
      grown(key, record, old_high, old_low, high, low)
    end
  end
  local skip = links == '0' and mtime ~= '' and young(record, mtime, skip_s, skip_ns)
  if not skip then
    record = sub(record, 1, 11) .. later(sub(record, 12, 23), atime) .. later(sub(record, 24, 35), mtime)
      .. later(sub(record, 36, 47), ctime) .. sub(record, 48)
  end
  -- Written even if no byte has changed: transactions of other clients watch the key.
  if not skip or record ~= before then put(key, record) end
end

local function set(key, ranges, acl)
  local record = node(key)
  if not record then return end
  local at = 1
  while at < #ranges do
    local offset, length = byte(ranges, at, at + 1)
    local new = sub(ranges, at + 2, at + 1 + length)
    if offset == 1 then
      local kind = byte(record, 2)
      new = char(kind - kind % 16 + byte(new)) .. sub(new, 2)
    end
    record = sub(record, 1, offset) .. new .. sub(record, offset + length + 1)
    at = at + 2 + length
  end
  if acl ~= '' then
    local tail = sub(record, #record < 79 and 72 or 80)
    record = sub(record, 1, 71) .. (acl == NONE8 and '' or acl) .. tail
  end
  put(key, record)
end

-- One lock goes; the session's set of lock keys follows with its last lock in the key.
local function unlock(key, field, session, locked)
  call('HDEL', key, field)
  for _, other in ipairs(call('HKEYS', key)) do
    if sub(other, 1, #session) == session then return end
  end
  call('SREM', locked, key)
end

local function list_begins(at, count)
  if count == 0 then return true end
  local list = call('LRANGE', words[at], 0, count - 1)
  if #list ~= count then return false end
  for index = 1, count do
    if list[index] ~= words[at + 1 + index] then return false end
  end
  return true
end

local function hash_is(at, count)
  if call('HLEN', words[at]) ~= count then return false end
  for pair = at + 2, at + 2 * count, 2 do
    if call('HGET', words[at], words[pair]) ~= words[pair + 1] then return false end
  end
  return true
end

-- Check the expectations from `at` on: where the changes begin, or nothing and the failed index.
local function check(at)
  while true do
    local kind, index, holds = words[at], words[at + 1], nil
    if kind == '!' then
      return at + 1
    elseif kind == 'node' then
      local record = node(words[at + 2])
      holds = record and ranges_hold(record, words[at + 3])
      at = at + 4
    elseif kind == 'absent' then
      holds = call('HEXISTS', words[at + 2], words[at + 3]) == 0
      at = at + 4
    elseif kind == 'field' then
      holds = call('HGET', words[at + 2], words[at + 3]) == words[at + 4]
      at = at + 5
    elseif kind == 'room' then
      holds = fits(words[at + 2], words[at + 3], words[at + 4])
      at = at + 5
    elseif kind == 'empty' then
      holds = call('EXISTS', words[at + 2]) == 0
      at = at + 3
    elseif kind == 'list' then
      local count = tonumber(words[at + 3])
      holds = list_begins(at + 2, count)
      at = at + 4 + count
    elseif kind == 'hash' then
      local count = tonumber(words[at + 3])
      holds = hash_is(at + 2, count)
      at = at + 4 + 2 * count
    else
      error({err = 'ERR unknown expectation ' .. tostring(kind)})
    end
    if not holds then return nil, index end
  end
end

-- Make the changes from `at` on: where the nodes to give back begin.
local function apply(at)
  while true do
    local kind = words[at]
    if kind == '=' then
      return at + 1
    elseif kind == 'call' then
      local count = tonumber(words[at + 1])
      call(unpack(words, at + 2, at + 1 + count))
      at = at + 2 + count
    elseif kind == 'put' then
      put(words[at + 1], words[at + 2])
      at = at + 3
    elseif kind == 'patch' then
      patch(unpack(words, at + 1, at + 8))
      at = at + 9
    elseif kind == 'add' then
      add(words[at + 1], words[at + 2])
      at = at + 3
    elseif kind == 'count' then
      local dir = words[at + 1]
      for which = 1, 3 do count(dir, which, words[at + 1 + which]) end
      at = at + 5
    elseif kind == 'grow' then
      local record = node(words[at + 1])
      if record then
        count_growth(words[at + 1], record, tonumber(words[at + 2]), tonumber(words[at + 3]), tonumber(words[at + 4]))
      end
      at = at + 5
    elseif kind == 'set' then
      set(words[at + 1], words[at + 2], words[at + 3])
      at = at + 4
    elseif kind == 'del' then
      put(words[at + 1], false)
      at = at + 2
    elseif kind == 'recount' then
      recount(words[at + 1])
      at = at + 2
    elseif kind == 'unlock' then
      unlock(unpack(words, at + 1, at + 4))
      at = at + 5
    else
      error({err = 'ERR unknown change ' .. tostring(kind)})
    end
  end
end

local function commit(at, stop)
  local changes, failed = check(at)
  if not changes then return 'X' .. pack('>I2', tonumber(failed)) end
  local answer = {'A'}
  for back = apply(changes), stop - 1 do
    local record = node(words[back]) or ''
    answer[#answer + 1] = char(#record) .. record
  end
  return concat(answer)
end

local function told(problem)
  local text = sub(type(problem) == 'table' and problem.err or tostring(problem), 1, 1000)
  return 'E' .. pack('>I2', #text) .. text
end

local answers, at = {}, 4
while at <= #words do
  local stop = at + 1 + tonumber(words[at])
  -- A damaged record stops its own commit, not those of others.
  local fine, answer = pcall(commit, at + 1, stop)
  answers[#answers + 1] = fine and answer or told(answer)
  at = stop
end

local function write_collected()
  local pairs_to_set = {}
  for _, key in ipairs(changed) do
    if nodes[key] then
      pairs_to_set[#pairs_to_set + 1] = key
      pairs_to_set[#pairs_to_set + 1] = nodes[key]
      -- A call takes fewer than 8,000 words.
      if #pairs_to_set >= 4000 then
        call('MSET', unpack(pairs_to_set))
        pairs_to_set = {}
      end
    else
      call('DEL', key)
    end
  end
  if #pairs_to_set > 0 then call('MSET', unpack(pairs_to_set)) end
  for counter, sum in pairs(sums) do
    if sum ~= 0 then call('INCRBY', counter, whole(sum)) end
  end
  for dir in pairs(moved) do write_count(dir) end
end

-- A counter that is no number: everyone whose change it may be is told.
local fine, problem = pcall(write_collected)
if not fine then
  for index = 1, #answers do answers[index] = told(problem) end
end

local answer = concat(answers)
call('HSET', KEYS[1], words[1], string.format('%016d%012d', words[2], words[3]) .. answer)
return answer
