-- Everything that RedisLedger does to its store, as one script: each run of it is one atomic step.
--
-- KEYS    the ten below; they carry one hash tag, so that a cluster keeps them in one slot
-- ARGV    operation, the time to use instead of the server's ("" for none), arguments
-- reply   { time, 1 if the ledger was empty, outcome, ... }
--
-- Lua's numbers are doubles: integers are exact up to 2^53, and nothing here grows beyond. Times are
-- microseconds of the epoch. Records are text: numbers with a space between them, then a line
-- "keep key" for each account. Keys and ids are printable, so that they hold no line breaks.
--
--   clock       "layout time due": the version of this list, the largest time ever seen, and the time
--               before which nothing expires or is to be forgotten
--   counters    key -> used x3, held x3, overdraft x3, open leases, touched, keep (0: for ever), due
--   opening     key -> used x3, overdraft x3: the old lines of the journal, summed up
--   journal     list of bookings: used x3, overdraft x3, accounts; and of keys that were forgotten
--   open        lease id -> expires, amounts x3, 1 if expiry charges, settled_keep, caller, accounts
--   expiries    sorted set: open lease id by expires
--   settled     lease id -> how it ended; "!" and what was committed, or "?" and what was booked
--   remembered  list of "until id": the settled ids, oldest first
--   fading      sorted set: "a" + key or "n" + key, by when to see whether it is to be forgotten
--   notes       key -> version, touched, keep, text

local CLOCK, COUNTERS, OPENING, JOURNAL, OPEN, EXPIRIES, SETTLED, REMEMBERED, FADING, NOTES =
  unpack(KEYS)

local LAYOUT = '1'
local MOST = 9007199254740991
local NEVER = MOST
local CALL = 1000000 -- parts of a call, in which prompts fill an account

-- How much old work one call does for others: more than a call leaves behind, so that nothing piles
-- up, and little enough not to be felt.
local EXPIRED_AT_ONCE, FORGOTTEN_AT_ONCE, REMEMBERED_AT_ONCE = 32, 8, 16
local LINES_KEPT, LINES_SUMMED = 256, 32

-- Where a counter's numbers stand; each of the first three is followed by those of its dimensions.
local USED, HELD, OVERDRAFT, LEASES, TOUCHED, KEEP, DUE = 0, 3, 6, 10, 11, 12, 13

local COUNTER = '%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f'
local SIX = '%.0f %.0f %.0f %.0f %.0f %.0f'
local THREE = '%.0f %.0f %.0f'

local now, due -- as in the clock

local function exact(number) -- tostring() would round to 14 digits
  return string.format('%.0f', number)
end

local function integers(text)
  local numbers, count = {}, 0
  for digits in string.gmatch(text, '%d+') do
    count = count + 1
    numbers[count] = tonumber(digits)
  end
  return numbers
end

local function wait_in(queue, at, member)
  redis.call('ZADD', queue, exact(at), member)
  if at < due then due = at end
end

-- "numbers \n keep key \n keep key ..." in two parts, and the second one as lists.

local function head_and_accounts(record)
  local cut = string.find(record, '\n', 1, true)
  if not cut then return record, '' end
  return string.sub(record, 1, cut - 1), string.sub(record, cut)
end

local function keys_and_keeps(accounts)
  local keys, keeps = {}, {}
  for keep, key in string.gmatch(accounts, '\n(%d+) ([^\n]+)') do
    keys[#keys + 1], keeps[#keys + 1] = key, tonumber(keep)
  end
  return keys, keeps
end

-- Counters -------------------------------------------------------------------------------------

local function counters_of(keys)
  local all = {}
  if #keys == 0 then return all end
  local records = redis.call('HMGET', COUNTERS, unpack(keys))
  for i, record in ipairs(records) do
    all[i] = record and integers(record) or { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  end
  return all
end

local function save_counters(keys, all)
  if #keys == 0 then return end
  local pairs_ = {}
  for i, counter in ipairs(all) do
    counter[TOUCHED] = now
    local fades = now + counter[KEEP]
    if counter[KEEP] > 0 and (counter[DUE] == 0 or fades < counter[DUE]) then
      counter[DUE] = fades
      wait_in(FADING, fades, 'a' .. keys[i])
    end
    pairs_[2 * i - 1], pairs_[2 * i] = keys[i], string.format(COUNTER, unpack(counter))
  end
  redis.call('HSET', COUNTERS, unpack(pairs_))
end

-- Journal --------------------------------------------------------------------------------------

-- Add the oldest lines to the opening balances. Of many lines, each balance is written once.
local function sum_up()
  local lines = redis.call('LRANGE', JOURNAL, 0, LINES_SUMMED - 1)
  redis.call('LTRIM', JOURNAL, LINES_SUMMED, -1)
  local balances = {}
  for _, line in ipairs(lines) do
    local head, accounts = head_and_accounts(line)
    local booked = integers(head)
    for _, key in ipairs((keys_and_keeps(accounts))) do
      if #booked == 0 then -- the key was forgotten
        balances[key] = { 0, 0, 0, 0, 0, 0 }
      else
        if not balances[key] then
          local record = redis.call('HGET', OPENING, key)
          balances[key] = record and integers(record) or { 0, 0, 0, 0, 0, 0 }
        end
        for i = 1, 6 do balances[key][i] = balances[key][i] + booked[i] end
      end
    end
  end
  for key, balance in pairs(balances) do
    local record = string.format(SIX, unpack(balance))
    if record == '0 0 0 0 0 0' then
      redis.call('HDEL', OPENING, key)
    else
      redis.call('HSET', OPENING, key, record)
    end
  end
end

local function write_line(head, accounts)
  if redis.call('RPUSH', JOURNAL, head .. accounts) > LINES_KEPT then sum_up() end
end

-- Book into the counters, and into the journal. False if a counter would pass 2^53: then nothing
-- was changed. What is freed was held; what is used beyond it is checked, the rest is covered.
local function book(accounts, freed, used, overdraft, closed)
  local keys, keeps = keys_and_keeps(accounts)
  local all = counters_of(keys)
  for i, counter in ipairs(all) do
    for d = 1, 3 do
      -- A counter that was lost (deleted by hand) must not become negative: `reconcile` mends it.
      counter[HELD + d] = math.max(0, counter[HELD + d] - freed[d])
      counter[USED + d] = counter[USED + d] + used[d]
      counter[OVERDRAFT + d] = counter[OVERDRAFT + d] + overdraft[d]
      if counter[USED + d] + counter[HELD + d] > MOST then return false end
    end
    if counter[TOUCHED] == 0 then counter[KEEP] = keeps[i] end
    counter[LEASES] = math.max(0, counter[LEASES] - closed)
  end
  save_counters(keys, all)
  if used[1] > 0 or used[2] > 0 or used[3] > 0 then
    local head = string.format(SIX, used[1], used[2], used[3], unpack(overdraft))
    write_line(head, accounts)
  end
  return true
end

local function excess(mine, theirs)
  local over = {}
  for d = 1, 3 do over[d] = math.max(0, mine[d] - theirs[d]) end
  return over
end

-- Leases ---------------------------------------------------------------------------------------

local function find_open(id)
  local record = redis.call('HGET', OPEN, id)
  if not record then return nil end
  local head, accounts = head_and_accounts(record)
  local numbers = integers(head)
  return {
    expires = numbers[1],
    amounts = { numbers[2], numbers[3], numbers[4] },
    charges = numbers[5] == 1,
    settled_keep = numbers[6],
    caller = numbers[7],
    accounts = accounts,
    record = record,
  }
end

local function remember(id, record, keep)
  redis.call('HSET', SETTLED, id, record)
  local length = redis.call('RPUSH', REMEMBERED, exact(now + keep) .. ' ' .. id)
  if length % REMEMBERED_AT_ONCE ~= 0 then return end
  for _ = 1, 2 * REMEMBERED_AT_ONCE do
    local oldest = redis.call('LINDEX', REMEMBERED, 0)
    if not oldest then break end
    local till, old_id = string.match(oldest, '^(%d+) (.*)$')
    if tonumber(till) > now then break end
    redis.call('LPOP', REMEMBERED)
    redis.call('HDEL', SETTLED, old_id)
  end
end

local function drop_open(id)
  redis.call('HDEL', OPEN, id)
  redis.call('ZREM', EXPIRIES, id)
end

local NOTHING = { 0, 0, 0 }

local function settle_expired(id, lease)
  local booked = lease.charges and lease.amounts or NOTHING
  book(lease.accounts, lease.amounts, booked, NOTHING, 1)
  drop_open(id)
  local head = 'expired? ' .. string.format(THREE, unpack(booked))
  remember(id, head .. lease.accounts, lease.settled_keep)
end

-- An open lease that is not over its time. Of a long queue of expired ones it may be the last.
local function still_open(id)
  local lease = find_open(id)
  if lease and lease.expires <= now then
    settle_expired(id, lease)
    return nil
  end
  return lease
end

local function ending_of(record)
  local how, mark, numbers = string.match(record, '^(%a+)([!?]) ([%d ]+)')
  return how, mark == '!', integers(numbers)
end

-- Chores ---------------------------------------------------------------------------------------

-- What is over its time, some of it: leases, then counters and notes. Returns the leases.
local function do_chores()
  local expired = {}
  local upto = exact(now)
  local ids = redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', upto, 'LIMIT', 0, EXPIRED_AT_ONCE)
  for _, id in ipairs(ids) do
    local lease = find_open(id)
    if lease then
      settle_expired(id, lease)
      expired[#expired + 1] = id
      expired[#expired + 1] = lease.record
    else
      redis.call('ZREM', EXPIRIES, id)
    end
  end

  -- Each of these returns when to look again, or nil.

  local function look_at_account(key)
    local record = redis.call('HGET', COUNTERS, key)
    if not record then return nil end
    local counter = integers(record)
    local again
    if counter[LEASES] == 0 and counter[KEEP] > 0 then
      again = counter[TOUCHED] + counter[KEEP]
      if again <= now then
        redis.call('HDEL', COUNTERS, key)
        write_line('', '\n0 ' .. key)
        return nil
      end
    end -- with a lease open there is nothing to do: its settlement brings the key back here
    counter[DUE] = again or 0
    redis.call('HSET', COUNTERS, key, string.format(COUNTER, unpack(counter)))
    return again
  end

  local function look_at_note(key)
    local record = redis.call('HGET', NOTES, key)
    if not record then return nil end
    local touched, keep = string.match(record, '^%d+ (%d+) (%d+) ')
    if keep == '0' then return nil end
    local again = tonumber(touched) + tonumber(keep)
    if again > now then return again end
    redis.call('HDEL', NOTES, key)
    return nil
  end

  local members = redis.call('ZRANGEBYSCORE', FADING, '-inf', upto, 'LIMIT', 0, FORGOTTEN_AT_ONCE)
  for _, member in ipairs(members) do
    local look = string.sub(member, 1, 1) == 'a' and look_at_account or look_at_note
    local again = look(string.sub(member, 2))
    if again then
      redis.call('ZADD', FADING, exact(again), member)
    else
      redis.call('ZREM', FADING, member)
    end
  end

  due = NEVER
  for _, queue in ipairs({ EXPIRIES, FADING }) do
    local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
    if first[2] then due = math.min(due, tonumber(first[2])) end
  end
  return expired
end

-- Operations -----------------------------------------------------------------------------------

-- One of these; a script pays for each function that it makes.
local operation

if ARGV[1] == 'reserve' then
  -- id, ttl, amounts x3, charges, settled_keep, caller, accounts as text, then for each of them
  -- key, limits x3 ("" for none), keep, number of earlier keys, earlier keys
  function operation(id, ttl, usd, tokens, calls, charges, settled_keep, caller, accounts, ...)
    local asked = { tonumber(usd), tonumber(tokens), tonumber(calls) }
    local lease = still_open(id)
    if lease then
      -- By the same caller it was opened just now, and the reply was lost.
      return lease.caller == tonumber(caller) and 'mine' or 'open', lease.record
    end
    local ended = redis.call('HGET', SETTLED, id)
    if ended then
      return 'settled', (ending_of(ended))
    end

    local places, all_keys = {}, {}
    local at = 1
    local arguments = { ... }
    while arguments[at] do
      local place = { keep = tonumber(arguments[at + 4]), first = #all_keys + 1 }
      place.limits = { arguments[at + 1], arguments[at + 2], arguments[at + 3] }
      local earlier = tonumber(arguments[at + 5])
      all_keys[#all_keys + 1] = arguments[at]
      for i = 1, earlier do all_keys[#all_keys + 1] = arguments[at + 5 + i] end
      place.last = #all_keys
      places[#places + 1] = place
      at = at + 6 + earlier
    end

    local all = counters_of(all_keys)
    for i, place in ipairs(places) do
      local used, held, fits = { 0, 0, 0 }, { 0, 0, 0 }, true
      for d = 1, 3 do
        for k = place.first, place.last do
          used[d] = used[d] + all[k][USED + d]
          held[d] = held[d] + all[k][HELD + d]
        end
        local limit = tonumber(place.limits[d])
        if limit and asked[d] > 0 and asked[d] > limit - used[d] - held[d] then fits = false end
      end
      if not fits then
        return 'denied', i, exact(used[1]), exact(used[2]), exact(used[3]),
          exact(held[1]), exact(held[2]), exact(held[3])
      end
    end

    local keys, mine = {}, {}
    for i, place in ipairs(places) do
      local counter = all[place.first]
      for d = 1, 3 do
        if counter[USED + d] + counter[HELD + d] + asked[d] > MOST then return 'full' end
        counter[HELD + d] = counter[HELD + d] + asked[d]
      end
      counter[LEASES] = counter[LEASES] + 1
      counter[KEEP] = place.keep
      keys[i], mine[i] = all_keys[place.first], counter
    end
    save_counters(keys, mine)
    local expires = exact(now + tonumber(ttl))
    wait_in(EXPIRIES, now + tonumber(ttl), id)
    local head = table.concat({ expires, usd, tokens, calls, charges, settled_keep, caller }, ' ')
    redis.call('HSET', OPEN, id, head .. accounts)
    return 'granted', expires
  end

elseif ARGV[1] == 'extend' then
  function operation(id, ttl)
    local lease = still_open(id)
    if not lease then return 'unknown' end
    local expires = now + tonumber(ttl)
    if expires <= lease.expires then return 'extended', lease.record end
    local record = string.gsub(lease.record, '^%d+', exact(expires), 1)
    redis.call('HSET', OPEN, id, record)
    wait_in(EXPIRIES, expires, id)
    return 'extended', record
  end

elseif ARGV[1] == 'commit' then
  local function commit_late(id, actual)
    local record = redis.call('HGET', SETTLED, id)
    if not record then return 'unknown' end
    local how, is_actual, numbers = ending_of(record)
    if is_actual then
      for d = 1, 3 do
        if numbers[d] ~= actual[d] then
          return 'other', exact(numbers[1]), exact(numbers[2]), exact(numbers[3])
        end
      end
      return 'settled', 0
    end
    local _, accounts = head_and_accounts(record)
    local uncovered = excess(actual, numbers)
    if not book(accounts, NOTHING, uncovered, uncovered, 0) then return 'full' end
    redis.call('HSET', SETTLED, id, how .. '! ' .. string.format(THREE, unpack(actual)))
    return 'settled', 0
  end

  function operation(id, usd, tokens, calls)
    local actual = { tonumber(usd), tonumber(tokens), tonumber(calls) }
    local lease = still_open(id)
    if not lease then return commit_late(id, actual) end
    local overdraft = excess(actual, lease.amounts)
    if not book(lease.accounts, lease.amounts, actual, overdraft, 1) then return 'full' end
    drop_open(id)
    remember(id, 'committed! ' .. string.format(THREE, unpack(actual)), lease.settled_keep)
    return 'settled', 1
  end

elseif ARGV[1] == 'release' then
  function operation(id)
    local lease = still_open(id)
    if not lease then return 'settled', 0 end
    book(lease.accounts, lease.amounts, NOTHING, NOTHING, 1)
    drop_open(id)
    remember(id, 'released? 0 0 0' .. lease.accounts, lease.settled_keep)
    return 'settled', 1
  end

elseif ARGV[1] == 'undo' then
  -- A reservation that its caller never heard of: as if it had never been, so that its id can be used
  -- again.
  function operation(id, caller)
    local lease = still_open(id)
    if not lease or lease.caller ~= tonumber(caller) then return 'settled', 0 end
    book(lease.accounts, lease.amounts, NOTHING, NOTHING, 1)
    drop_open(id)
    return 'settled', 1
  end

elseif ARGV[1] == 'snapshot' then
  -- number of counters wanted, their keys, then keys of notes
  function operation(count, ...)
    local arguments = { ... }
    if #arguments == 0 then return 'seen', exact(now), {}, {} end
    local last = tonumber(count)
    return 'seen', exact(now), redis.call('HMGET', COUNTERS, unpack(arguments, 1, last)),
      redis.call('HMGET', NOTES, unpack(arguments, last + 1))
  end

elseif ARGV[1] == 'swap_note' then
  function operation(key, expected, text, keep)
    local record = redis.call('HGET', NOTES, key)
    local version, found = '0', ''
    if record then version, found = string.match(record, '^(%d+) %d+ %d+ (.*)$') end
    if version ~= expected then return 'note', version, found end
    version = exact(tonumber(version) + 1)
    redis.call('HSET', NOTES, key, table.concat({ version, exact(now), keep, text }, ' '))
    if keep ~= '0' then wait_in(FADING, now + tonumber(keep), 'n' .. key) end
    return 'note', version, text
  end

elseif ARGV[1] == 'refill' then
  -- id, settled_keep, then for each account key, part of a call in millionths, keep
  function operation(id, settled_keep, ...)
    if still_open(id) then return 'open' end
    if redis.call('HEXISTS', SETTLED, id) == 1 then return 'refilled', 0 end
    local arguments = { ... }
    for i = 1, #arguments, 3 do
      local key, part, keep = arguments[i], tonumber(arguments[i + 1]), arguments[i + 2]
      local record = redis.call('HGET', COUNTERS, key)
      local counter = record and integers(record)
      local used = counter and counter[USED + 3] or 0
      local note = redis.call('HGET', NOTES, key)
      local version, aside, given = '0', '0', '0'
      if note then
        version = string.match(note, '^%d+')
        local first, second = string.match(note, '^%d+ %d+ %d+ (%d+) (%d+)$')
        if first then aside, given = first, second end
      end
      local drained = math.max(0, used * CALL - tonumber(aside) - part)
      local left = math.ceil(drained / CALL)
      local back = used - left
      if back > 0 then
        counter[USED + 3] = left
        counter[OVERDRAFT + 3] = math.min(counter[OVERDRAFT + 3], left)
        save_counters({ key }, { counter })
        -- To the journal it is as if it were forgotten, and what is left were booked anew.
        write_line('', '\n0 ' .. key)
        local numbers = {}
        for d = 1, 3 do
          numbers[d], numbers[3 + d] = counter[USED + d], counter[OVERDRAFT + d]
        end
        local head = string.format(SIX, unpack(numbers))
        if head ~= '0 0 0 0 0 0' then write_line(head, '\n0 ' .. key) end
      end
      local text = exact(left * CALL - drained) .. ' ' .. exact(tonumber(given) + back)
      version = exact(tonumber(version) + 1)
      redis.call('HSET', NOTES, key, table.concat({ version, exact(now), keep, text }, ' '))
      if keep ~= '0' then wait_in(FADING, now + tonumber(keep), 'n' .. key) end
    end
    remember(id, 'committed! 0 0 0', tonumber(settled_keep))
    return 'refilled', 1
  end

elseif ARGV[1] == 'books' then
  function operation()
    return 'books', redis.call('HGETALL', COUNTERS), redis.call('HGETALL', OPENING),
      redis.call('LRANGE', JOURNAL, 0, -1), redis.call('HGETALL', OPEN)
  end

elseif ARGV[1] == 'repair' then
  -- key, the record that was seen ("" for none), the one to put in its place; and so on
  function operation(...)
    local arguments = { ... }
    local mended = 0
    for i = 1, #arguments, 3 do
      local key, seen, record = arguments[i], arguments[i + 1], arguments[i + 2]
      if (redis.call('HGET', COUNTERS, key) or '') == seen then
        redis.call('HSET', COUNTERS, key, record)
        mended = mended + 1
      end
    end
    local open = redis.call('HGETALL', OPEN)
    for i = 1, #open, 2 do
      wait_in(EXPIRIES, tonumber(string.match(open[i + 1], '^%d+')), open[i])
    end
    return 'repaired', mended
  end

elseif ARGV[1] == 'keys' then
  -- prefix
  function operation(prefix)
    local found = {}
    for _, names in ipairs({ redis.call('HKEYS', COUNTERS), redis.call('HKEYS', NOTES) }) do
      for _, name in ipairs(names) do
        if string.sub(name, 1, #prefix) == prefix then found[#found + 1] = name end
      end
    end
    return 'keys', found
  end

elseif ARGV[1] == 'leases' then
  function operation()
    return 'leases', redis.call('HGETALL', OPEN)
  end

elseif ARGV[1] == 'reset' then
  -- key, key of the account that what is booked moves to, 1 to do it though leases are open
  function operation(key, archive, force)
    local record = redis.call('HGET', COUNTERS, key)
    if not record then return 'reset', 0, 0, 0, 0, 0, 0, 0 end
    local counter = integers(record)
    if counter[LEASES] > 0 and force ~= '1' then return 'open', counter[LEASES] end
    local used, overdraft = {}, {}
    for d = 1, 3 do
      used[d], overdraft[d] = counter[USED + d], counter[OVERDRAFT + d]
    end
    if used[1] > 0 or used[2] > 0 or used[3] > 0 then
      if not book('\n0 ' .. archive, NOTHING, used, overdraft, 0) then return 'full' end
      for d = 1, 3 do
        counter[USED + d], counter[OVERDRAFT + d] = 0, 0
      end
      redis.call('HSET', COUNTERS, key, string.format(COUNTER, unpack(counter)))
      write_line('', '\n0 ' .. key) -- to the journal it is as if it were forgotten
    end
    return 'reset', counter[LEASES], exact(used[1]), exact(used[2]), exact(used[3]),
      exact(overdraft[1]), exact(overdraft[2]), exact(overdraft[3])
  end

elseif ARGV[1] == 'now' then
  function operation()
    return 'now'
  end

end

-- The run --------------------------------------------------------------------------------------

local found = redis.call('GET', CLOCK)
local layout, latest = LAYOUT, '0'
if found then layout, latest, due = string.match(found, '^(%w+) (%d+) (%d+)$') end
if layout ~= LAYOUT then
  return { 0, 0, 'layout', string.match(found, '^%w*'), LAYOUT }
end
if ARGV[2] ~= '' then
  now = tonumber(ARGV[2])
else
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
-- A server's clock may be set back, and then the ledger's stands still until it has caught up.
latest = tonumber(latest)
now = math.max(now, latest)
due = tonumber(due) or 0
local known_due = due

local expired = due <= now and do_chores() or {}
local reply
if ARGV[1] == 'expire' then
  reply = { exact(now), found and 0 or 1, 'expired', EXPIRED_AT_ONCE, expired }
else
  reply = { exact(now), found and 0 or 1, operation(unpack(ARGV, 3)) }
end
-- Looking for keys makes none. A millisecond: each command takes its time.
if ARGV[1] ~= 'keys' and (now - latest >= 1000 or due ~= known_due) then
  redis.call('SET', CLOCK, string.format('%s %.0f %.0f', LAYOUT, now, due))
end
return reply
