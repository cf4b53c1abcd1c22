-- KEYS[1]; ARGV: expected version or '', now, the new record, milliseconds to keep it or '0' for ever.
-- 1 if stored, 0 on conflict.
local version = ''
local header = redis.pcall('GETRANGE', KEYS[1], 0, 39)
if type(header) == 'table' and string.sub(header.err, 1, 9) ~= 'WRONGTYPE' then
    return header
end
if type(header) ~= 'string' then
    return 0
elseif header == '' then
    if redis.call('EXISTS', KEYS[1]) == 1 then
        return 0
    end
else
    local deadline, found = string.match(header, '^c1 (%d+) ([0-9a-f]+)\n$')
    if not deadline or #header ~= 40 or #deadline ~= 19 then
        return 0
    end
    if deadline > ARGV[2] then
        version = found
    end
end
if version ~= ARGV[1] then
    return 0
end
if ARGV[4] == '0' then
    redis.call('SET', KEYS[1], ARGV[3])
else
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1
