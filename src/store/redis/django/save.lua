-- KEYS[1]; ARGV: expected digest or '', the new value, 'EX' or 'PX' or '' for ever, and how much of it.
-- 1 if stored, 0 on conflict.
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' and string.sub(value.err, 1, 9) ~= 'WRONGTYPE' then
    return value
end
local digest = ''
if type(value) == 'string' then
    digest = string.sub(redis.sha1hex(value), 1, 16)
elseif value then
    return 0
end
if digest ~= ARGV[1] then
    return 0
end
if ARGV[3] == '' then
    redis.call('SET', KEYS[1], ARGV[2])
elseif ARGV[4] == '0' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[2], ARGV[3], ARGV[4])
end
return 1
