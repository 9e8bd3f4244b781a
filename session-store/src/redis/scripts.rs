//! The Lua scripts: one for each operation that touches more than one key. Redis runs a script as a whole, so nobody
//! sees a record without its index entry. All keys of a script carry one hash tag, so a cluster has them in one place.
//!
//! Time is Redis' own (`TIME`), so that instances with different clocks agree on what has expired.

use std::sync::LazyLock;

use redis::Script;

/// `KEYS`: record, index. `ARGV`: value, time to live in ms, id. Writes both and prunes the index.
pub static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
return 1",
    )
});

/// `KEYS`: record, index, owner. `ARGV`: least time to live in ms, id. Answers 0 when the record is gone.
pub static TOUCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local left = redis.call('PTTL', KEYS[1])
if left == -2 then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return 0
end
local life = math.max(left, tonumber(ARGV[1]))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('PEXPIRE', KEYS[1], life)
redis.call('ZADD', KEYS[2], now + life, ARGV[2])
if redis.call('PTTL', KEYS[3]) < life then redis.call('PEXPIRE', KEYS[3], life) end
return 1",
    )
});

/// `KEYS`: index, then records. `ARGV`: id. Removes them all.
pub static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('ZREM', KEYS[1], ARGV[1])
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return 1",
    )
});

/// `KEYS`: index. `ARGV`: prefix of the records. Answers the records that are alive and prunes the index of the others.
/// Read in steps of 500 because Lua's `unpack` is limited by its stack.
pub static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
local alive = {}
for from = 1, #ids, 500 do
  local keys = {}
  for i = from, math.min(from + 499, #ids) do keys[#keys + 1] = ARGV[1] .. ids[i] end
  local values = redis.call('MGET', unpack(keys))
  for i = 1, #keys do
    if values[i] then
      alive[#alive + 1] = values[i]
    else
      redis.call('ZREM', KEYS[1], ids[from + i - 1])
    end
  end
end
return alive",
    )
});

/// `KEYS`: key. `ARGV`: value, time to live in ms. Answers what was kept before, or nil.
pub static PUT_IF_ABSENT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local kept = redis.call('GET', KEYS[1])
if not kept then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return kept",
    )
});

/// `KEYS`: owner. `ARGV`: node, time to live in ms. Answers the owner after the claim.
pub static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]",
    )
});

/// `KEYS`: owner. `ARGV`: the node that is gone, node, time to live in ms. Answers the owner after it.
pub static TAKE_OVER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] and owner ~= ARGV[2] then return owner end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]",
    )
});

/// `KEYS`: owner. `ARGV`: node. Removes the claim if it is this node's.
pub static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1",
    )
});

/// `KEYS`: index, owner, then records. `ARGV`: id, node. Removes them all, unless another node is the owner.
pub static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return 1",
    )
});

/// `KEYS`: allowance. `ARGV`: interval in ms, tolerance in ms. Answers 0 when taken, else the wait in ms. The key holds
/// the millisecond at which the allowance is whole again, and is gone then.
pub static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local whole_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local wait = whole_at - now - ARGV[2]
if wait > 0 then return wait end
whole_at = whole_at + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', whole_at), 'PX', whole_at - now)
return 0",
    )
});

/// `KEYS`: tenant's sessions. `ARGV`: session id, most, grace in ms, ids to take out first. Adds the session when there is
/// room and answers 1; else answers the ids that count only as long as their records live. A set that nobody adds to is
/// dropped after a day: no session without a record is older.
pub static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 4, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) <= now then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], 86400000)
return 1",
    )
});

/// `KEYS`: records. Answers each of them, or nil.
pub static RECORDS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local records = {}
for i = 1, #KEYS do records[i] = redis.call('GET', KEYS[i]) end
return records",
    )
});

/// `KEYS`: report, index, placed. `ARGV`: report, time to live in ms, node id, in-flight time in ms. Writes the report,
/// and forgets what was placed so long ago that the report counts it. Answers whether there was a report before.
pub static HEARTBEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[4])
return known",
    )
});

/// `KEYS`: any of the server that is asked. Answers the id of the history that its data is of, or nil.
pub static REPLICATION_ID: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')",
    )
});

/// `KEYS`: placed, report. `ARGV`: ticket, time to live in ms. Writes the ticket when the node has room by its last
/// report and the tickets written since, and answers whether it has.
pub static PLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local report = redis.call('GET', KEYS[2])
if not report then return 0 end
report = cjson.decode(report)
if report.draining or redis.call('ZCARD', KEYS[1]) >= report.capacity - report.sessions then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1",
    )
});

/// `KEYS`: index of nodes. `ARGV`: prefix of reports, prefix of what was placed. Answers, for each node that is alive, its
/// report and the number of tickets, and prunes the index of the others. All of these keys carry the index's hash tag.
pub static NODES: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local alive = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local report = redis.call('GET', ARGV[1] .. id)
  if report then
    alive[#alive + 1] = {report, redis.call('ZCARD', ARGV[2] .. id)}
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return alive",
    )
});

/// `KEYS`: progress. `ARGV`: rank, value, time to live in ms. Answers 0 when this rank or a higher one is kept.
pub static ADVANCE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local rank = redis.call('HGET', KEYS[1], 'rank')
if rank and tonumber(rank) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'rank', ARGV[1], 'value', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1",
    )
});
