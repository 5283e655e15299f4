-- Applies a batch of commits, one after the other, each all or nothing, and the batch at most once.
--
-- KEYS[1]  hash of clients: the number of the last batch; beside it, as '<client>!', what was answered
--          to the last batch in which something did not hold: its number, a space, the answer
-- ARGV     client, number of the batch; then for each commit the number of its words ('': all there
--          are) and the words
-- Words    node keys to give back, '?', expectations with their index, '!', changes
-- Answer   for each commit  'A' and for each node asked for its length (u8) and record (0: none)
--                           'X' and the index (u16) of the expectation that does not hold
--                           'E', length (u16) and text of an error that names the damaged record
--
-- A call of Redis costs more than anything else here, the making of a function comes next: what is
-- frequent has its own branch, what is rare is made where it is met. What commits of a batch change
-- together (nodes, counters, statistics) is written once, at its end.
-- No 64-bit number becomes a Lua number: they go as text, or as two halves; sums below 2^53 are exact.
-- Strings are compared for equality only: their order depends on the server's locale.
local call, byte, char, sub, fields, words = redis.call, string.byte, string.char, string.sub, struct.unpack, ARGV
local clients, client, number = KEYS[1], ARGV[1], ARGV[2]

-- Whatever forbids writing (memory, a replica, a failing disk) is told here, before anything changes.
local last, this = call('HINCRBY', clients, client, 1) - 1, tonumber(number)
local again = last == this
if last > this then
  call('HINCRBY', clients, client, -1)
  return redis.error_reply('STALE a later batch of this client is applied')
elseif again then
  call('HINCRBY', clients, client, -1)
  local kept = call('HGET', clients, client .. '!')
  if kept and sub(kept, 1, #number + 1) == number .. ' ' then return sub(kept, #number + 2) end
elseif last < this - 1 then
  call('HSET', clients, client, number)
end

-- A commit that has the batch to itself writes at once what others collect.
local alone = words[3] == ''
-- Sums from here on are not collected: doubles hold those below exactly.
local LARGE = 4503599627370496
-- Nodes read or changed by this batch.
local nodes, changed = {}, {}
-- What counters move by.
local sums = {}
-- Directories: whether they have statistics, and what these move by.
local counted, moved = {}, {}
local STATISTICS = {'dirDataLength', 'dirUsedSpace', 'dirUsedInodes'}
local USED = {'UsedSpace', 'UsedInodes'}

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

-- As Redis reads it; larger numbers would go with an exponent.
local function whole(number)
  if number < 10000000000000000 and number > -10000000000000000 then return number end
  return string.format('%.0f', number)
end

-- Here and below `more` is a number or its text.
local function add(counter, more)
  if alone then return call('INCRBY', counter, more) end
  local sum = (sums[counter] or 0) + more
  if math.abs(sum) < LARGE then
    sums[counter] = sum
  else
    call('INCRBY', counter, more)
  end
end

-- Move one of a directory's statistics, if it has any.
local function count(dir, which, more)
  if more == '0' or more == 0 or counted[dir] == false then return end
  if alone then
    local sum = call('HINCRBY', STATISTICS[which], dir, more)
    if counted[dir] or sum ~= tonumber(more) then
      counted[dir] = true
      return
    end
    -- It was zero or absent. The three come and go together: another one tells.
    counted[dir] = call('HEXISTS', STATISTICS[which % 3 + 1], dir) == 1
    if not counted[dir] then call('HDEL', STATISTICS[which], dir) end
    return
  end
  if counted[dir] == nil then
    counted[dir] = call('HEXISTS', 'dirUsedSpace', dir) == 1
    if not counted[dir] then return end
  end
  local moves = moved[dir]
  if not moves then
    moves = {0, 0, 0}
    moved[dir] = moves
  end
  local sum = moves[which] + more
  if math.abs(sum) < LARGE then
    moves[which] = sum
  else
    call('HINCRBY', STATISTICS[which], dir, more)
  end
end

-- A file's length moved, by two halves, and its space: the statistics of each directory that names
-- it follow, once for each name there.
local function count_growth(key, record, high, low, space)
  local links, _, _, _, parent_high, parent_low = fields('>I4I4I4I4I4I4', record, 48)
  if links == 0 then return end
  if parent_high < 2097152 and parent_high + parent_low > 0 and high == 0 then
    local dir = string.format('%.0f', parent_high * 4294967296 + parent_low)
    count(dir, 1, low)
    return count(dir, 2, whole(space))
  end
  local parents = {}
  if parent_high + parent_low == 0 then
    parents = call('HGETALL', 'p' .. sub(key, 2))
  else
    -- Decimal text of a number that no double holds.
    local quotient, rest = 0, 0
    for at = 64, 70, 2 do
      local value = rest * 65536 + fields('>I2', record, at)
      quotient = quotient * 65536 + math.floor(value / 1000000000)
      rest = value % 1000000000
    end
    parents = {(quotient > 0 and string.format('%.0f%09.0f', quotient, rest) or string.format('%.0f', rest)), '1'}
  end
  for at = 1, #parents, 2 do
    local dir, names = parents[at], tonumber(parents[at + 1])
    if names > 0 then
      count(dir, 1, whole(high * 4294967296 * names))
      count(dir, 1, whole(low * names))
      count(dir, 2, whole(space * names))
    end
  end
end

-- The record with at least this length; usedSpace and the statistics of directories follow.
local function longer(key, record, length)
  local old_high, old_low = fields('>I4I4', record, 52)
  local high, low = fields('>I4I4', length)
  if high < old_high or high == old_high and low <= old_low then return record end
  local space, kind = 0, byte(record, 2)
  if kind >= 16 and kind < 32 then
    local pages, ceil = math.max(1, high * 1048576 + math.ceil(low / 4096)), math.ceil
    space = (pages - math.max(1, old_high * 1048576 + ceil(old_low / 4096))) * 4096
  end
  if space ~= 0 then add('usedSpace', whole(space)) end
  count_growth(key, record, high - old_high, low - old_low, space)
  return sub(record, 1, 51) .. length .. sub(record, 60)
end

-- Times are mtime and ctime, 12 bytes each. With `skip_s` none of the times moves while mtime is
-- younger than that and `skip_ns`.
local function patch(key, links, times, atime, length, skip_s, skip_ns)
  local before = node(key)
  if not before then return end
  local record = before
  if links ~= '0' then
    local sum = fields('>I4', record, 48) + links
    sum = math.min(math.max(sum, 0), 4294967295)
    record = sub(record, 1, 47) .. struct.pack('>I4', sum) .. sub(record, 52)
  end
  if length ~= '' then record = longer(key, record, length) end
  local m1, m2, m3, c1, c2, c3 = fields('>i4I4I4i4I4I4', record, 24)
  local n1, n2, n3, d1, d2, d3 = fields('>i4I4I4i4I4I4', times)
  if skip_s ~= '' and ((n1 - m1) * 4294967296 + (n2 - m2) - skip_s) * 1000000000 + (n3 - m3 - skip_ns) < 0 then
    if record ~= before then put(key, record) end
    return
  end
  local modified = n1 > m1 or n1 == m1 and (n2 > m2 or n2 == m2 and n3 > m3)
  local touched = d1 > c1 or d1 == c1 and (d2 > c2 or d2 == c2 and d3 > c3)
  if not (modified and touched) then
    local mtime, kind = modified and sub(times, 1, 12) or sub(record, 24, 35), byte(record, 2)
    -- Who keeps the content of a file by its mtime must see a change by a client whose clock is behind, too.
    if not modified and kind >= 16 and kind < 32 and n1 > -2147483648 and (n1 ~= m1 or n2 ~= m2 or n3 ~= m3) then
      m3 = m3 + 1
      if m3 >= 1000000000 then m2, m3 = m2 + 1, 0 end
      if m2 == 4294967296 then m1, m2 = m1 + 1, 0 end
      mtime = struct.pack('>i4I4I4', m1, m2, m3)
    end
    times = mtime .. (touched and sub(times, 13) or sub(record, 36, 47))
  end
  local head = sub(record, 1, 23)
  if atime ~= '' then
    local a1, a2, a3 = fields('>i4I4I4', record, 12)
    local b1, b2, b3 = fields('>i4I4I4', atime)
    if b1 > a1 or b1 == a1 and (b2 > a2 or b2 == a2 and b3 > a3) then head = sub(record, 1, 11) .. atime end
  end
  -- Written even if no byte has changed: transactions of other clients watch the key.
  put(key, head .. times .. sub(record, 48))
end

-- Ranges of a record: offset, length, bytes each; offset 255 is the type, 254 the tier, which has no place of its own.
local function ranges_hold(record, ranges)
  local at, stop = 1, #ranges
  while at < stop do
    local offset, length, first = byte(ranges, at, at + 2)
    if offset == 255 then
      local kind = byte(record, 2)
      if kind < first * 16 or kind >= first * 16 + 16 then return false end
    elseif offset == 254 then
      -- Lists of access control stand before it; with neither a record has 72 bytes, with both 81.
      local tier = (#record == 73 or #record == 81) and byte(record, -2) or 0
      if tier ~= first then return false end
    else
      local there = sub(record, offset + 1, offset + length)
      if offset == 71 and #record < 79 then there = string.rep('\0', 8) end
      if there ~= sub(ranges, at + 2, at + 1 + length) then return false end
    end
    at = at + 2 + length
  end
  return true
end

-- An expectation that is rare: whether it holds, and where the next one begins.
local function check_rare(at)
  local kind, key = words[at], words[at + 2]
  if kind == 'empty' then return call('EXISTS', key) == 0, at + 3 end
  if kind == 'room' then
    -- A counter and what is added are at most the limit; in two limbs, of which doubles hold the sum exactly.
    local high, low = 0, 0
    local sum = string.format('%.0f', sums[key] or 0)
    for index, text in ipairs({words[at + 4], call('GET', key) or '0', sum, words[at + 3]}) do
      local sign, digits = index == 1 and -1 or 1, text
      if sub(text, 1, 1) == '-' then
        sign, digits = -sign, sub(text, 2)
      end
      high = high + sign * (tonumber(sub(digits, 1, -10)) or 0)
      low = low + sign * tonumber(sub(digits, -9))
    end
    return high * 1000000000 + low <= 0, at + 5
  end
  if kind == 'quota' then
    -- What a quota counts and what is added are at most its limits, which doubles hold well enough.
    local field = words[at + 3]
    local limits, holds = call('HGET', key, field), true
    if limits and #limits == 16 and call('HEXISTS', key .. USED[2], field) == 1 then
      for which = 1, 2 do
        local more, high, low = tonumber(words[at + 3 + which]), fields('>i4I4', limits, which * 8 - 7)
        local limit = high * 4294967296 + low
        holds = holds and (more <= 0 or limit <= 0 or (call('HGET', key .. USED[which], field) or 0) + more <= limit)
      end
    end
    return holds, at + 6
  end
  local number = tonumber(words[at + 3])
  if kind == 'list' then
    local list = number > 0 and call('LRANGE', key, 0, number - 1) or {}
    local holds = #list == number
    for index = 1, number do holds = holds and list[index] == words[at + 3 + index] end
    return holds, at + 4 + number
  elseif kind == 'hash' or kind == 'parents' then
    local there = call('HLEN', key)
    -- The last link that leaves a directory leaves a zero.
    for _, links in ipairs(kind == 'parents' and call('HVALS', key) or {}) do
      if tonumber(links) <= 0 then there = there - 1 end
    end
    local holds = there == number
    for pair = at + 4, at + 2 + 2 * number, 2 do
      holds = holds and call('HGET', key, words[pair]) == words[pair + 1]
    end
    return holds, at + 4 + 2 * number
  end
  error({err = 'ERR unknown expectation ' .. tostring(kind)})
end

-- Check the expectations from `at` on: where the changes begin, or nothing and the failed index.
local function check(at)
  while true do
    local kind, index, holds = words[at], words[at + 1], nil
    if kind == '!' then
      return at + 1
    elseif kind == 'node' then
      local record = node(words[at + 2])
      holds, at = record and ranges_hold(record, words[at + 3]), at + 4
    elseif kind == 'enter' then
      -- The last one: an absent entry that is made if all others hold.
      holds, at = call('HSETNX', words[at + 2], words[at + 3], words[at + 4]) == 1, at + 5
    elseif kind == 'absent' then
      holds, at = call('HEXISTS', words[at + 2], words[at + 3]) == 0, at + 4
    elseif kind == 'field' then
      holds, at = call('HGET', words[at + 2], words[at + 3]) == words[at + 4], at + 5
    else
      holds, at = check_rare(at)
    end
    if not holds then return nil, tonumber(index) end
  end
end

-- A change that is rare: where the next one begins.
local function change_rare(at)
  local kind, key = words[at], words[at + 1]
  if kind == 'del' then
    put(key, false)
    return at + 2
  elseif kind == 'recount' then
    -- A directory's statistics begin or go: what comes later looks again.
    for which, sum in ipairs(moved[key] or {}) do
      if sum ~= 0 then call('HINCRBY', STATISTICS[which], key, sum) end
    end
    moved[key], counted[key] = nil, nil
    return at + 2
  elseif kind == 'quota' then
    -- What a quota counts moves. Only directories may have none; others begin without limits.
    local field = words[at + 2]
    if key ~= 'dirQuota' then call('HSETNX', key, field, string.rep('\255', 16)) end
    if key ~= 'dirQuota' or call('HEXISTS', key .. USED[2], field) == 1 then
      for which = 1, 2 do call('HINCRBY', key .. USED[which], field, words[at + 2 + which]) end
    end
    return at + 5
  elseif kind == 'grow' then
    local record = node(key)
    if record then
      count_growth(key, record, tonumber(words[at + 2]), tonumber(words[at + 3]), tonumber(words[at + 4]))
    end
    return at + 5
  elseif kind == 'set' then
    local record, ranges, acl = node(key), words[at + 2], words[at + 3]
    if not record then return at + 4 end
    local from = 1
    while from < #ranges do
      local offset, length = byte(ranges, from, from + 1)
      local new = sub(ranges, from + 2, from + 1 + length)
      if offset == 1 then
        local mode = byte(record, 2)
        new = char(mode - mode % 16 + byte(new)) .. sub(new, 2)
      end
      record = sub(record, 1, offset) .. new .. sub(record, offset + length + 1)
      from = from + 2 + length
    end
    if acl ~= '' then
      local tail = sub(record, #record < 79 and 72 or 80)
      record = sub(record, 1, 71) .. (acl == string.rep('\0', 8) and '' or acl) .. tail
    end
    put(key, record)
    return at + 4
  elseif kind == 'unlock' then
    -- One lock goes; the session's set of lock keys follows with its last lock in the key.
    local session, left = words[at + 3], false
    call('HDEL', key, words[at + 2])
    for _, other in ipairs(call('HKEYS', key)) do left = left or sub(other, 1, #session) == session end
    if not left then call('SREM', words[at + 4], key) end
    return at + 5
  end
  error({err = 'ERR unknown change ' .. tostring(kind)})
end

-- Make the changes from `at` to `stop`.
local function apply(at, stop)
  while at <= stop do
    local kind = words[at]
    if kind == 'call' then
      local to = at + 1 + words[at + 1]
      call(unpack(words, at + 2, to))
      at = to + 1
    elseif kind == 'put' then
      put(words[at + 1], words[at + 2])
      at = at + 3
    elseif kind == 'patch' then
      patch(unpack(words, at + 1, at + 7))
      at = at + 8
    elseif kind == 'add' then
      add(words[at + 1], words[at + 2])
      at = at + 3
    elseif kind == 'count' then
      local dir = words[at + 1]
      count(dir, 1, words[at + 2])
      count(dir, 2, words[at + 3])
      count(dir, 3, words[at + 4])
      at = at + 5
    else
      at = change_rare(at)
    end
  end
end

local function commit(first, stop)
  local at = first
  while words[at] ~= '?' do at = at + 1 end
  if not again then
    local changes, failed = check(at + 1)
    if not changes then return 'X' .. struct.pack('>I2', failed) end
    apply(changes, stop)
  end
  local answer = 'A'
  for back = first, at - 1 do
    local record = node(words[back]) or ''
    answer = answer .. char(#record) .. record
  end
  return answer
end

local function told(problem)
  local text = sub(type(problem) == 'table' and problem.err or tostring(problem), 1, 1000)
  return 'E' .. struct.pack('>I2', #text) .. text
end

local function write_collected()
  local pairs_to_set = {}
  for index = 1, #changed do
    local key = changed[index]
    if not nodes[key] then
      call('DEL', key)
    elseif #changed == 1 then
      call('SET', key, nodes[key])
    else
      pairs_to_set[#pairs_to_set + 1] = key
      pairs_to_set[#pairs_to_set + 1] = nodes[key]
      -- A call takes fewer than 8,000 words.
      if #pairs_to_set >= 4000 then
        call('MSET', unpack(pairs_to_set))
        pairs_to_set = {}
      end
    end
  end
  if #pairs_to_set > 0 then call('MSET', unpack(pairs_to_set)) end
  for counter, sum in pairs(sums) do
    if sum ~= 0 then call('INCRBY', counter, sum) end
  end
  for dir, moves in pairs(moved) do
    for which = 1, 3 do
      if moves[which] ~= 0 then call('HINCRBY', STATISTICS[which], dir, moves[which]) end
    end
  end
end

local answers, at, all_hold = {}, 3, true
while at <= #words do
  local stop = alone and #words or at + words[at]
  -- A damaged record stops its own commit, not those of others.
  local fine, answer = pcall(commit, at + 1, stop)
  if not fine then answer = told(answer) end
  all_hold = all_hold and byte(answer) == 65
  answers[#answers + 1] = answer
  at = stop + 1
end

-- A counter that is no number: everyone whose change it may be is told.
local fine, problem = pcall(write_collected)
if not fine then
  all_hold = false
  for index = 1, #answers do answers[index] = told(problem) end
end

local answer = table.concat(answers)
if not all_hold then call('HSET', clients, client .. '!', number .. ' ' .. answer) end
return answer
