/**
 * Takes one request of every limit of every scope (its key, project, organization), all of them or none. The log of
 * admitted requests is a sorted set, id → microsecond, so that the count is exact over any window, and a request that is
 * sent twice is counted once. Tokens are counted in 60 parts of the window, the oldest counting whole. Places in flight are
 * leases: id → microsecond of their end. Refused requests leave nothing behind, so everything is bounded by the limits, and
 * ends by itself.
 *
 * Time is the server's: gateways' clocks differ, and two of them must not see two windows. What lies in its future was
 * written before the clock was set back, or by a server that was ahead: nobody is refused for that.
 *
 * KEYS: of each scope: log of requests, tokens by part, places in flight; touched where there is such a limit
 * ARGV: window in ms, request id, tokens of this request, lease in ms, how many more like it are wanted ahead, and for how
 * many ms; of each scope: rpm, tpm, concurrency, -1 being none
 *
 * What is wanted ahead is given where no limit is more than half used with it: ids `<request id>:1`, …, each with a place in
 * flight. It counts as if admitted at the end of the time it may be used in, so for a whole window after its use at least.
 *
 * Returns {the scope that refused, from 1, or 0 admitted; by: 1 requests, 2 tokens, 3 concurrency; 1 if it was admitted
 * before; the part that was charged; how many were given ahead, and the part that they were charged to; and of each scope: requests in the window, ms until a further one fits, tokens in the
 * window, ms until as many fit again}
 */
export const ADMIT_REQUEST = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = ARGV[1] * 1000
local id, tokens, lease = ARGV[2], tonumber(ARGV[3]), ARGV[4] * 1000
local ahead, later = tonumber(ARGV[5]), now + ARGV[6] * 1000
local size = math.max(1, math.floor(window / 60))
local part = math.floor(now / size)
local oldest = math.floor((now - window) / size)
local laterPart = math.floor(later / size)

local scopes, known, of, by = {}, false, 0, 0
-- Of scope i: its log is KEYS[3 * i - 2], its tokens KEYS[3 * i - 1], its places KEYS[3 * i].
for i = 1, #KEYS / 3 do
  local rpm, tpm, places = tonumber(ARGV[3 * i + 4]), tonumber(ARGV[3 * i + 5]), tonumber(ARGV[3 * i + 6])
  local count, used, parts, running = 0, 0, nil, 0
  if rpm >= 0 then
    local log = KEYS[3 * i - 2]
    redis.call('ZREMRANGEBYSCORE', log, '-inf', now - window)
    count = redis.call('ZCARD', log)
    if count >= rpm and redis.call('ZREMRANGEBYSCORE', log, string.format('(%.0f', later), '+inf') > 0 then
      count = redis.call('ZCARD', log)
    end
    known = known or redis.call('ZSCORE', log, id) ~= false
  end
  if tpm >= 0 then
    parts = {}
    local all = redis.call('HGETALL', KEYS[3 * i - 1])
    for j = 1, #all, 2 do
      local at, charged = tonumber(all[j]), tonumber(all[j + 1])
      if at < oldest or at > laterPart then
        redis.call('HDEL', KEYS[3 * i - 1], all[j])
      else
        used = used + charged
        parts[#parts + 1] = {at, charged}
      end
    end
  end
  if places >= 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[3 * i], '-inf', now)
    running = redis.call('ZCARD', KEYS[3 * i])
    local longest = string.format('(%.0f', now + lease)
    if running >= places and redis.call('ZREMRANGEBYSCORE', KEYS[3 * i], longest, '+inf') > 0 then
      running = redis.call('ZCARD', KEYS[3 * i])
    end
    known = known or redis.call('ZSCORE', KEYS[3 * i], id) ~= false
  end
  if of == 0 then
    if rpm >= 0 and count >= rpm then of, by = i, 1
    elseif tpm >= 0 and used + tokens > tpm then of, by = i, 2
    elseif places >= 0 and running >= places then of, by = i, 3
    end
  end
  if (rpm >= 0 and 2 * (count + 1 + ahead) > rpm) or (tpm >= 0 and 2 * (used + tokens * (1 + ahead)) > tpm)
    or (places >= 0 and 2 * (running + 1 + ahead) > places) then ahead = 0 end
  scopes[i] = {rpm = rpm, tpm = tpm, places = places, count = count, used = used, parts = parts}
end
if known then of, by = 0, 0 end
if known or of > 0 then ahead = 0 end

local function entries(first)
  local all = {}
  for j = 1, ahead do
    all[2 * j - 1], all[2 * j] = first, id .. ':' .. j
  end
  return unpack(all)
end

local answer = {of, by, known and 1 or 0, part, ahead, laterPart}
for i = 1, #scopes do
  local scope = scopes[i]
  if of == 0 and not known then
    if scope.rpm >= 0 then
      redis.call('ZADD', KEYS[3 * i - 2], now, id)
      if ahead > 0 then redis.call('ZADD', KEYS[3 * i - 2], entries(later)) end
      redis.call('PEXPIRE', KEYS[3 * i - 2], ARGV[1] + 1000)
      scope.count = scope.count + 1 + ahead
    end
    if scope.tpm >= 0 then
      redis.call('HINCRBY', KEYS[3 * i - 1], string.format('%.0f', part), tokens)
      if ahead > 0 then redis.call('HINCRBY', KEYS[3 * i - 1], string.format('%.0f', laterPart), tokens * ahead) end
      redis.call('PEXPIRE', KEYS[3 * i - 1], ARGV[1] * 2)
      scope.used = scope.used + tokens * (1 + ahead)
      scope.parts[#scope.parts + 1] = {part, tokens}
    end
    if scope.places >= 0 then
      redis.call('ZADD', KEYS[3 * i], now + lease, id)
      if ahead > 0 then redis.call('ZADD', KEYS[3 * i], entries(now + lease)) end
      redis.call('PEXPIRE', KEYS[3 * i], ARGV[4] * 2)
    end
  end
  local reset = 0
  if scope.rpm >= 0 and scope.count >= scope.rpm then
    local place = scope.count - scope.rpm
    local leaves = redis.call('ZRANGE', KEYS[3 * i - 2], place, place, 'WITHSCORES')[2]
    reset = leaves and math.ceil((leaves + window - now) / 1000) or tonumber(ARGV[1])
  end
  local freed = 0
  if scope.tpm >= 0 and scope.used + tokens > scope.tpm then
    freed = tonumber(ARGV[1])
    table.sort(scope.parts, function(a, b) return a[1] < b[1] end)
    local left = scope.used
    for _, entry in ipairs(scope.parts) do
      left = left - entry[2]
      if left + tokens <= scope.tpm then
        freed = math.ceil(((entry[1] + 1) * size + window - now) / 1000)
        break
      end
    end
  end
  answer[4 * i + 3], answer[4 * i + 4], answer[4 * i + 5], answer[4 * i + 6] = scope.count, reset, scope.used, freed
end
return answer
`;

/**
 * Ends of admitted requests: their places are free, and the tokens charged become those they took.
 *
 * KEYS: of each scope, as above
 * ARGV: of each scope 1 where its tokens are counted, else 0, as one word; how many ids are released, and how many are to
 * count as never admitted; these ids; then parts that were charged, each with the difference
 */
export const SETTLE_REQUESTS = `
local released, never = tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, #KEYS / 3 do
  local log, counted, running = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  if released + never > 0 then redis.call('ZREM', running, unpack(ARGV, 4, 3 + released + never)) end
  if never > 0 then redis.call('ZREM', log, unpack(ARGV, 4 + released, 3 + released + never)) end
  if string.sub(ARGV[1], i, i) == '1' then
    for j = 4 + released + never, #ARGV, 2 do
      if redis.call('HEXISTS', counted, ARGV[j]) == 1 and redis.call('HINCRBY', counted, ARGV[j], ARGV[j + 1]) < 0 then
        redis.call('HSET', counted, ARGV[j], 0)
      end
    end
  end
end
`;

/**
 * A request still in flight keeps its places, or has them again after Redis lost them.
 *
 * KEYS: places in flight, of each scope that limits them · ARGV: request id, lease in ms
 */
export const RENEW_PLACES = `
local time = redis.call('TIME')
for _, running in ipairs(KEYS) do
  redis.call('ZADD', running, time[1] * 1000000 + time[2] + ARGV[2] * 1000, ARGV[1])
  redis.call('PEXPIRE', running, ARGV[2] * 2)
end
`;
