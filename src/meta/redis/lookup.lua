-- What a name stands for, with the attributes of the child. KEYS[1]: the directory's hash; ARGV[1]: the name.
-- Gives nothing, or the entry's nine bytes and the child's record if there is one.
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return false end
if #entry ~= 9 then return {entry} end
-- Decimal text of the inode, which no Lua number holds: divided in 16-bit digits.
local quotient, rest = 0, 0
for at = 2, 8, 2 do
  local value = rest * 65536 + struct.unpack('>I2', entry, at)
  quotient = quotient * 65536 + math.floor(value / 1000000000)
  rest = value % 1000000000
end
local ino = quotient > 0 and string.format('%.0f%09.0f', quotient, rest) or string.format('%.0f', rest)
return {entry, redis.call('GET', (string.match(KEYS[1], '^{%d+}') or '') .. 'i' .. ino)}
