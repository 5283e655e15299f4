-- A directory's quota. ARGV[1]: the directory's inode. Gives space and inodes that it counts, and its limits.
local call, dir = redis.call, ARGV[1]
return {call('HGET', 'dirQuotaUsedSpace', dir), call('HGET', 'dirQuotaUsedInodes', dir), call('HGET', 'dirQuota', dir)}
