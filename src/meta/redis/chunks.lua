-- Which chunks of a file have a list. KEYS[1]: the file's node; ARGV: the inode, the most chunks to try.
-- Gives the number of chunks below the file's end (-1: no such file, or too many), then the indexes found.
local record = redis.call('GET', KEYS[1])
if not record or #record < 63 then return {-1} end
local high, low = struct.unpack('>I4I4', record, 52)
local count = high * 64 + math.ceil(low / 67108864)
if count > tonumber(ARGV[2]) then return {-1} end
local found = {count}
for index = 0, count - 1 do
  if redis.call('EXISTS', 'c' .. ARGV[1] .. '_' .. index) == 1 then found[#found + 1] = index end
end
return found
