-- KEYS[1]; ARGV: expected version, now, the new deadline, milliseconds to keep the record or '0' for ever.
-- 1 if the version was still that one, 0 if not.
local header = redis.pcall('GETRANGE', KEYS[1], 0, 39)
if type(header) == 'table' and string.sub(header.err, 1, 9) ~= 'WRONGTYPE' then
    return header
end
if type(header) ~= 'string' or #header ~= 40 then
    return 0
end
local deadline, found = string.match(header, '^c1 (%d+) ([0-9a-f]+)\n$')
if not deadline or #deadline ~= 19 or found ~= ARGV[1] or deadline <= ARGV[2] then
    return 0
end
if ARGV[3] > deadline then
    redis.call('SETRANGE', KEYS[1], 3, ARGV[3])
    if ARGV[4] == '0' then
        redis.call('PERSIST', KEYS[1])
    else
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
    end
end
return 1
