-- A quota. ARGV: the hash of its limits, its field. Gives space and inodes that it counts, and its limits.
local call, limits, field = redis.call, ARGV[1], ARGV[2]
return {call('HGET', limits .. 'UsedSpace', field), call('HGET', limits .. 'UsedInodes', field), call('HGET', limits, field)}
