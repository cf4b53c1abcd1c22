-- KEYS[1]; ARGV: expected digest, and how many milliseconds the value is to have left or '' for ever.
-- 1 if the value was still that one, 0 if not.
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' and string.sub(value.err, 1, 9) ~= 'WRONGTYPE' then
    return value
end
if type(value) ~= 'string' or string.sub(redis.sha1hex(value), 1, 16) ~= ARGV[1] then
    return 0
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
    return 1
end
if ARGV[2] == '' then
    redis.call('PERSIST', KEYS[1])
elseif tonumber(ARGV[2]) > left then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
