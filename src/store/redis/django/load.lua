-- KEYS[1]. The value and how many milliseconds it has left, -1 if for ever; nothing if there is none.
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' and string.sub(value.err, 1, 9) ~= 'WRONGTYPE' then
    return value
end
if not value then
    return false
elseif type(value) ~= 'string' then
    return ''
end
return {value, redis.call('PTTL', KEYS[1])}
