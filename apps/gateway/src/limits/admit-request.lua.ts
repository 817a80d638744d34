/**
 * Takes one request of a key's rate: a log of the admitted requests in a sorted set, id → microsecond, so that the count
 * is exact over any window, and a request that is sent twice is counted once. Refused requests leave nothing behind, so
 * the set has at most `limit` members, and it ends one window after the last one admitted.
 *
 * Time is the server's: gateways' clocks differ, and two of them must not see two windows.
 *
 * KEYS[1] the key's log · ARGV: window in ms, limit, request id
 * Returns {1 admitted now | 2 admitted before | 0 refused, requests in the window, ms until a further one fits}
 */
export const ADMIT_REQUEST = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = ARGV[1] * 1000
local limit = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local count = redis.call('ZCARD', KEYS[1])
local outcome = 0
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then
  outcome = 2
elseif count < limit then
  redis.call('ZADD', KEYS[1], now, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[1] + 1000)
  count = count + 1
  outcome = 1
end
if count < limit then return {outcome, count, 0} end
local leaves = redis.call('ZRANGE', KEYS[1], count - limit, count - limit, 'WITHSCORES')[2]
if not leaves then return {outcome, count, tonumber(ARGV[1])} end
return {outcome, count, math.ceil((leaves + window - now) / 1000)}
`;
