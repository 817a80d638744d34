/**
 * Takes one request of a key's limits, all of them or none. The log of admitted requests is a sorted set, id →
 * microsecond, so that the count is exact over any window, and a request that is sent twice is counted once. Tokens are
 * counted in 60 parts of the window, the oldest counting whole. Places in flight are leases: id → microsecond of their end.
 * Refused requests leave nothing behind, so everything is bounded by the limits, and ends by itself.
 *
 * Time is the server's: gateways' clocks differ, and two of them must not see two windows.
 *
 * KEYS: log of requests, tokens by part, places in flight
 * ARGV: window in ms, request id, rpm, tpm, tokens of this request, concurrency, lease in ms; a limit of -1 is none
 * Returns {0 admitted | refused by: 1 requests, 2 tokens, 3 concurrency, 1 if it was admitted before, requests in the
 * window, ms until a further one fits, tokens in the window, ms until as many fit again, the part that was charged}
 */
export const ADMIT_REQUEST = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = ARGV[1] * 1000
local id = ARGV[2]
local rpm, tpm, tokens = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local places, lease = tonumber(ARGV[6]), ARGV[7] * 1000
local known, count = false, 0
if rpm >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
  count = redis.call('ZCARD', KEYS[1])
  known = redis.call('ZSCORE', KEYS[1], id) ~= false
end
local size = math.max(1, math.floor(window / 60))
local part = math.floor(now / size)
local used, parts = 0, {}
if tpm >= 0 then
  local oldest = math.floor((now - window) / size)
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    local at, charged = tonumber(all[i]), tonumber(all[i + 1])
    if at < oldest then
      redis.call('HDEL', KEYS[2], all[i])
    else
      used = used + charged
      parts[#parts + 1] = {at, charged}
    end
  end
end
local running = 0
if places >= 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  running = redis.call('ZCARD', KEYS[3])
  known = known or redis.call('ZSCORE', KEYS[3], id) ~= false
end
local refused = 0
if not known then
  if rpm >= 0 and count >= rpm then refused = 1
  elseif tpm >= 0 and used + tokens > tpm then refused = 2
  elseif places >= 0 and running >= places then refused = 3
  else
    if rpm >= 0 then
      redis.call('ZADD', KEYS[1], now, id)
      redis.call('PEXPIRE', KEYS[1], ARGV[1] + 1000)
      count = count + 1
    end
    if tpm >= 0 then
      redis.call('HINCRBY', KEYS[2], string.format('%.0f', part), tokens)
      redis.call('PEXPIRE', KEYS[2], ARGV[1] * 2)
      used = used + tokens
      parts[#parts + 1] = {part, tokens}
    end
    if places >= 0 then
      redis.call('ZADD', KEYS[3], now + lease, id)
      redis.call('PEXPIRE', KEYS[3], ARGV[7] * 2)
    end
  end
end
local reset = 0
if rpm >= 0 and count >= rpm then
  local leaves = redis.call('ZRANGE', KEYS[1], count - rpm, count - rpm, 'WITHSCORES')[2]
  reset = leaves and math.ceil((leaves + window - now) / 1000) or tonumber(ARGV[1])
end
local freed = 0
if tpm >= 0 and used + tokens > tpm then
  freed = tonumber(ARGV[1])
  table.sort(parts, function(a, b) return a[1] < b[1] end)
  local left = used
  for _, entry in ipairs(parts) do
    left = left - entry[2]
    if left + tokens <= tpm then
      freed = math.ceil(((entry[1] + 1) * size + window - now) / 1000)
      break
    end
  end
end
return {refused, known and 1 or 0, count, reset, used, freed, part}
`;

/**
 * The end of an admitted request: its place is free, and the tokens charged become those it took.
 *
 * KEYS: tokens by part, places in flight · ARGV: request id, the part that was charged, the difference
 */
export const SETTLE_REQUEST = `
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[3] ~= '0' and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then
  if redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3]) < 0 then redis.call('HSET', KEYS[1], ARGV[2], 0) end
end
`;

/**
 * A request still in flight keeps its place, or has it again after Redis lost it.
 *
 * KEYS: places in flight · ARGV: request id, lease in ms
 */
export const RENEW_PLACE = `
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000000 + time[2] + ARGV[2] * 1000, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
`;
