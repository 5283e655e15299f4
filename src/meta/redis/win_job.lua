-- Sets a job's stamp unless another client has done so in this period. KEYS[1]: the stamp; ARGV: now, period.
-- A stamp of more than a period from now is one by a clock that was wrong.
local stamp = redis.call('GET', KEYS[1])
if stamp and math.abs(tonumber(stamp) - tonumber(ARGV[1])) < tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
