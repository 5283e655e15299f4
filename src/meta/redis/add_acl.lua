-- Stores a rule of access control under a new id, which is the answer. Sent twice it wastes an id.
-- KEYS[1]  counter of ids
-- KEYS[2]  hash of rules
-- ARGV[1]  the rule
local id
repeat
  id = redis.call('INCR', KEYS[1])
until redis.call('HSETNX', KEYS[2], id, ARGV[1]) == 1
return id
