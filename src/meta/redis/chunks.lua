-- Which chunks of files have a list. ARGV: for each file its inode, the first chunk to try, and the
-- end of those to try. Gives for each file the indexes found.
local files, named = {}, KEYS[1] and string.match(KEYS[1], '^{%d+}') or ''
for at = 1, #ARGV, 3 do
  local prefix, found = named .. 'c' .. ARGV[at] .. '_', {}
  for index = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]) - 1 do
    if redis.call('EXISTS', prefix .. index) == 1 then found[#found + 1] = index end
  end
  files[#files + 1] = found
end
return files
