-- Whole lists. KEYS: the lists. Gives their items, list by list.
local lists = {}
for at, key in ipairs(KEYS) do lists[at] = redis.call('LRANGE', key, 0, -1) end
return lists
