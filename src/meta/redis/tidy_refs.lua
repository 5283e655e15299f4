-- Drops fields that count one reference, which no field counts too. KEYS[1]: hash of references; ARGV: fields.
for _, field in ipairs(ARGV) do
  if redis.call('HGET', KEYS[1], field) == '0' then redis.call('HDEL', KEYS[1], field) end
end
return 0
