-- For wrk: every request is one of the lines of a file, chosen at random. A line is the Cookie header, or path, Host and Cookie
-- header with tabs between, and for a POST the length of its body.

local requests = {}

function init(arguments)
   math.randomseed(os.time())
   for line in io.lines(arguments[1]) do
      local path, host, cookie, upload = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t?(%d*)$")
      local length = tonumber(upload)
      local method, body = length and "POST" or "GET", length and string.rep("x", length)
      requests[#requests + 1] = wrk.format(method, path, { Host = host, Cookie = cookie or line }, body)
   end
end

function request()
   return requests[math.random(#requests)]
end

function done(summary, latency)
   local errors = summary.errors
   local line = '{"requests":%d,"seconds":%f,"p50_us":%d,"p99_us":%d,'
      .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n'
   local p50, p99 = latency:percentile(50), latency:percentile(99)
   io.write(line:format(summary.requests, summary.duration / 1e6, p50, p99,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
