-- Run by wrk: sends one prepared request over and over, every time with the next key, at a rate if one is given. Some time
-- before wrk ends it stops sending, so that nothing is in flight then: what was answered can be counted to the last one.
local ffi = require('ffi')
ffi.cdef [[
  struct bench_time { long seconds; long nanoseconds; };
  int clock_gettime(int clock, struct bench_time *time);
]]
local MONOTONIC = jit.os == 'OSX' and 6 or 1
local time = ffi.new('struct bench_time')
local function now()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local before, after, whole, rate, active
local keys, at = {}, 0
local began, finish, sent = nil, nil, 0

-- args: file of the request, with {key} where the key goes; file of keys, one a line; seconds to send for; requests a
-- second, 0 for as fast as the answers come
function init(args)
  local file = assert(io.open(args[1], 'rb'))
  local template = file:read('*a')
  file:close()
  for key in io.lines(args[2]) do keys[#keys + 1] = key end
  active, rate = tonumber(args[3]), tonumber(args[4])
  local from, to = template:find('{key}', 1, true)
  before, after = template:sub(1, from - 1), template:sub(to + 1)
  if #keys == 1 then whole = before .. keys[1] .. after end
end

function request()
  if whole then return whole end
  -- A stride without a common divisor with round numbers: neighbours in the file are not neighbours in time.
  at = (at + 7919) % #keys
  return before .. keys[at + 1] .. after
end

-- Milliseconds until a free connection sends again.
function delay()
  local time = now()
  if not began then began, finish = time, time + active end
  if time >= finish then return 3600000 end
  if rate == 0 then return 0 end
  local due = began + sent / rate
  sent = sent + 1
  return due > time and math.floor((due - time) * 1000 + math.random()) or 0
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"errors":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d,"cpuMs":%d}\n',
    summary.requests,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    os.clock() * 1000
  ))
end
