-- Whole lists. KEYS: the lists. Gives their items, list by list.
local lists = {}
for at, key in ipairs(KEYS) do
  -- In a Cluster the last key is one that never exists.
  if not string.find(key, '}Uring:none', 1, true) then lists[at] = redis.call('LRANGE', key, 0, -1) end
end
return lists
