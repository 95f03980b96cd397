package cluster

import "github.com/redis/go-redis/v9"

// scripts are what Redis runs in one step. None trusts what it finds: somebody else
// may have written it. pcall where what was found can be of another type, and the
// types of what it returns are looked at.
type scripts struct {
	set, invalidate, lease, release, take *redis.Script
}

func newScripts() scripts {
	return scripts{
		set:        redis.NewScript(setScript),
		invalidate: redis.NewScript(invalidateScript),
		lease:      redis.NewScript(leaseScript),
		release:    redis.NewScript(releaseScript),
		take:       redis.NewScript(takeScript),
	}
}

// setScript writes a value unless an invalidation has left its mark.
//
//	KEYS[1] value; ARGV frame, its life in ms, the mark of an invalidation
const setScript = `
if redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[3] - 1) == ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`

// invalidateScript leaves the mark in place of the value, or if Redis has no memory
// for it (maxmemory) at least takes the value away, and tells the others.
//
//	KEYS[1] value; ARGV mark, its life in ms, channel, notice
const invalidateScript = `
local done = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if type(done) == 'table' and done.err then done = redis.pcall('DEL', KEYS[1]) end
redis.call('PUBLISH', ARGV[3], ARGV[4])
if type(done) == 'table' and done.err then return done end
return 1`

// leaseScript takes a lease. One that no lease of ours can be, because it does not
// end or ends too late, is thrown away.
//
//	KEYS[1] lease; ARGV token, its life in ms, the longest life in ms
const leaseScript = `
local left = redis.call('PTTL', KEYS[1])
if left == -1 or left > tonumber(ARGV[3]) then redis.call('DEL', KEYS[1]) end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0`

// releaseScript gives a lease back, if it is still the caller's, and tells those who
// wait for it.
//
//	KEYS[1] lease; ARGV token, channel, notice
const releaseScript = `
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1`

// takeScript is counter.take by the clock of Redis: s is when the fixed window that
// runs began, w its length, c the uses in it and b those in the one before, times in
// ms. Counters expire after two windows; one that does not is thrown away, and so is
// what cannot be a counter.
//
//	KEYS[1] counter; ARGV limit, window in ms
const takeScript = `
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
if redis.call('PTTL', KEYS[1]) == -1 then redis.call('DEL', KEYS[1]) end
local found = redis.pcall('HMGET', KEYS[1], 's', 'w', 'c', 'b')
if found.err then
  redis.call('DEL', KEYS[1])
  found = {}
end
local start, length = tonumber(found[1] or ''), tonumber(found[2] or '')
local count, before = tonumber(found[3] or ''), tonumber(found[4] or '')
if not (start and count and before and length == window and count >= 0 and before >= 0
    and now >= start and now - start < 2 * window) then
  start, count, before = now, 0, 0
elseif now - start >= window then
  start, count, before = start + window, 0, count
end
if count + before * (1 - (now - start) / window) >= limit then return 0 end
redis.call('HSET', KEYS[1], 's', string.format('%.0f', start), 'w', window, 'c', string.format('%.0f', count + 1), 'b', string.format('%.0f', before))
redis.call('PEXPIRE', KEYS[1], 2 * window)
return 1`
