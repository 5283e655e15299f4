-- A quota. ARGV: the hash of its limits, its field. Gives space and inodes that it counts, and its limits.
local call, field = redis.call, ARGV[2]
local limits = (KEYS[1] and string.match(KEYS[1], '^{%d+}') or '') .. ARGV[1]
return {call('HGET', limits .. 'UsedSpace', field), call('HGET', limits .. 'UsedInodes', field), call('HGET', limits, field)}
