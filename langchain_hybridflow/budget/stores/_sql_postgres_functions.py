"""The functions of `PostgresLedger`, in PL/pgSQL; `_sql_postgres_schema` says how they are used.

`CLOCK`, `DUE` and `SETTINGS` are filled in by `_sql_postgres_schema`.

Arguments that many of them have: `p_now`, the time of a test's clock, null for the server's;
`p_hurry`, not to say that other leases are over their time (the caller has had some settled);
`p_wait`, how long to wait for locks, as PostgreSQL writes it (`'1500ms'`).

Answers that many of them give: `at`, the time; `outcome`, one word. `due` says that nothing was
done, because leases are over their time and have to be settled first.
"""

from __future__ import annotations

from typing import Final

from langchain_hybridflow.budget.share import MICRO_CALLS

__all__ = ["FUNCTIONS", "REFILL"]

# The accounts come in the order of their keys, which is that of the locks; `p_places` says where
# each stood in the call. Limits are judged over the earlier keys, too, which are locked likewise,
# so that what is judged is what stands. Short statements, for a long one takes longer to start.
_RESERVE: Final = """
CREATE FUNCTION NS.reserve(
  p_id text, p_long_id text, p_call text, p_usd bigint, p_tokens bigint, p_calls bigint,
  p_keys text[], p_places integer[], p_keeps float8[],
  p_max_usd bigint[], p_max_tokens bigint[], p_max_calls bigint[],
  p_earlier text[], p_earlier_of integer[], p_accounts text, p_ttl float8,
  p_now float8, p_hurry boolean, p_wait text,
  OUT outcome text, OUT at float8, OUT expires_at float8, OUT numbers bigint[], OUT accounts text,
  OUT mine boolean
) LANGUAGE plpgsql AS $f$
DECLARE
  known NS.leases%ROWTYPE;
  used bigint[];
  held bigint[];
  more bigint[];
  created boolean := false;
BEGIN
  SETTINGS
  at := CLOCK;
  IF NOT p_hurry AND DUE THEN
    outcome := 'due';
    RETURN;
  END IF;
  -- Should another call open it just now, the INSERT below fails, and the caller tries again.
  SELECT * INTO known FROM NS.leases l WHERE l.id = p_id;
  IF FOUND THEN
    outcome := CASE known.state WHEN 0 THEN 'open' WHEN 1 THEN 'committed' WHEN 2 THEN 'released'
               ELSE 'expired' END;
    expires_at := known.expires_at;
    numbers := ARRAY[known.usd, known.tokens, known.calls];
    accounts := known.accounts;
    mine := known.call = p_call;  -- sent before, and the reply was lost
    RETURN;
  END IF;

  FOR i IN 1..cardinality(p_keys) LOOP
    LOOP
      SELECT ARRAY[c.used_usd, c.used_tokens, c.used_calls],
             ARRAY[c.held_usd, c.held_tokens, c.held_calls]
      INTO used, held FROM NS.counters c WHERE c.key = p_keys[i] FOR UPDATE;
      EXIT WHEN FOUND;
      INSERT INTO NS.counters (key) VALUES (p_keys[i]) ON CONFLICT DO NOTHING;
      created := true;
    END LOOP;
    IF i = ANY (p_earlier_of) THEN
      SELECT ARRAY[sum(c.used_usd), sum(c.used_tokens), sum(c.used_calls),
                   sum(c.held_usd), sum(c.held_tokens), sum(c.held_calls)]::bigint[]
      INTO more FROM (
        SELECT k.* FROM NS.counters k
        WHERE k.key = ANY (ARRAY(SELECT e.key FROM unnest(p_earlier, p_earlier_of) AS e(key, n)
                                 WHERE e.n = i))
        ORDER BY k.key FOR UPDATE
      ) AS c;
      IF more[1] IS NOT NULL THEN
        used := ARRAY[used[1] + more[1], used[2] + more[2], used[3] + more[3]];
        held := ARRAY[held[1] + more[4], held[2] + more[5], held[3] + more[6]];
      END IF;
    END IF;
    IF (numbers IS NULL OR p_places[i] < numbers[1])
       AND ((p_usd > 0 AND used[1] + held[1] + p_usd > p_max_usd[i])
         OR (p_tokens > 0 AND used[2] + held[2] + p_tokens > p_max_tokens[i])
         OR (p_calls > 0 AND used[3] + held[3] + p_calls > p_max_calls[i])) THEN
      numbers := p_places[i] || used || held;
    END IF;
  END LOOP;

  IF numbers IS NOT NULL THEN
    outcome := 'denied';
    IF created THEN
      DELETE FROM NS.counters c WHERE c.key = ANY (p_keys) AND c.written_at IS NULL;
    END IF;
    RETURN;
  END IF;
  outcome := 'granted';
  expires_at := at + p_ttl;
  INSERT INTO NS.leases (id, long_id, call, usd, tokens, calls, keys, accounts, expires_at)
  VALUES (p_id, p_long_id, p_call, p_usd, p_tokens, p_calls, p_keys, p_accounts,
          reserve.expires_at);
  FOR i IN 1..cardinality(p_keys) LOOP
    UPDATE NS.counters c
    SET held_usd = held_usd + p_usd, held_tokens = held_tokens + p_tokens,
        held_calls = held_calls + p_calls, leases = leases + 1, written_at = at,
        keep_s = p_keeps[i],
        look_at = CASE WHEN c.keep_s IS NOT DISTINCT FROM p_keeps[i] THEN c.look_at
                  ELSE at + p_keeps[i] END
    WHERE c.key = p_keys[i];
  END LOOP;
END
$f$;
"""

_SETTLE: Final = """
-- Add to counters, in the order of their keys. Those that are missing were forgotten, or somebody
-- has deleted them; what an open lease holds is put back first, so that it can be taken away.
CREATE FUNCTION NS.book(
  p_keys text[], p_used bigint[], p_held bigint[], p_over bigint[], p_open bigint, p_at float8
) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
  FOR i IN 1..cardinality(p_keys) LOOP
    LOOP
      UPDATE NS.counters c
      SET used_usd = used_usd + p_used[1], used_tokens = used_tokens + p_used[2],
          used_calls = used_calls + p_used[3], held_usd = held_usd - p_held[1],
          held_tokens = held_tokens - p_held[2], held_calls = held_calls - p_held[3],
          over_usd = over_usd + p_over[1], over_tokens = over_tokens + p_over[2],
          over_calls = over_calls + p_over[3], leases = leases - p_open, written_at = p_at
      WHERE c.key = p_keys[i];
      EXIT WHEN FOUND;
      INSERT INTO NS.counters (key, held_usd, held_tokens, held_calls, leases, written_at)
      VALUES (p_keys[i], p_held[1], p_held[2], p_held[3], p_open, p_at)
      ON CONFLICT DO NOTHING;
    END LOOP;
  END LOOP;
END
$f$;

-- Commit (p_actual) or release (null).
CREATE FUNCTION NS.settle(
  p_id text, p_actual bigint[], p_now float8, p_hurry boolean, p_wait text,
  OUT outcome text, OUT at float8, OUT numbers bigint[]
) LANGUAGE plpgsql AS $f$
DECLARE
  known NS.leases%ROWTYPE;
  used bigint[] := coalesce(p_actual, ARRAY[0, 0, 0]);
  over bigint[];
BEGIN
  SETTINGS
  at := CLOCK;
  IF NOT p_hurry AND DUE THEN
    outcome := 'due';
    RETURN;
  END IF;
  SELECT * INTO known FROM NS.leases l WHERE l.id = p_id FOR UPDATE;
  IF NOT FOUND THEN
    outcome := 'unknown';
  ELSIF known.state = 0 THEN
    outcome := 'settled';
    over := ARRAY[greatest(used[1] - known.usd, 0), greatest(used[2] - known.tokens, 0),
                  greatest(used[3] - known.calls, 0)];
    UPDATE NS.leases l
    SET state = CASE WHEN p_actual IS NULL THEN 2 ELSE 1 END, settled_at = settle.at,
        used_usd = used[1], used_tokens = used[2], used_calls = used[3],
        over_usd = over[1], over_tokens = over[2], over_calls = over[3], actual = p_actual
    WHERE l.id = p_id;
    PERFORM NS.book(known.keys, used, ARRAY[known.usd, known.tokens, known.calls], over, 1, at);
  ELSIF p_actual IS NULL OR known.actual IS NOT NULL THEN
    outcome := 'known';
    numbers := known.actual;
  ELSE
    outcome := 'late';
    over := ARRAY[greatest(used[1] - known.used_usd, 0), greatest(used[2] - known.used_tokens, 0),
                  greatest(used[3] - known.used_calls, 0)];
    UPDATE NS.leases l
    SET used_usd = l.used_usd + over[1], used_tokens = l.used_tokens + over[2],
        used_calls = l.used_calls + over[3], over_usd = l.over_usd + over[1],
        over_tokens = l.over_tokens + over[2], over_calls = l.over_calls + over[3],
        actual = p_actual
    WHERE l.id = p_id;
    PERFORM NS.book(known.keys, over, ARRAY[0, 0, 0], over, 0, at);
  END IF;
END
$f$;

CREATE FUNCTION NS.extend(
  p_id text, p_ttl float8, p_now float8, p_hurry boolean, p_wait text,
  OUT outcome text, OUT at float8, OUT expires_at float8, OUT numbers bigint[], OUT accounts text
) LANGUAGE plpgsql AS $f$
BEGIN
  SETTINGS
  at := CLOCK;
  IF NOT p_hurry AND DUE THEN
    outcome := 'due';
    RETURN;
  END IF;
  UPDATE NS.leases l SET expires_at = greatest(l.expires_at, extend.at + p_ttl)
  WHERE l.id = p_id AND l.state = 0
  RETURNING l.expires_at, ARRAY[l.usd, l.tokens, l.calls], l.accounts
  INTO extend.expires_at, extend.numbers, extend.accounts;
  outcome := CASE WHEN FOUND THEN 'extended' ELSE 'closed' END;
END
$f$;

CREATE FUNCTION NS.expire(p_charge boolean, p_limit integer, p_now float8, p_wait text)
RETURNS TABLE (at float8, id text, numbers bigint[], accounts text, expires_at float8)
LANGUAGE plpgsql AS $f$
DECLARE
  over NS.leases[];
BEGIN
  SETTINGS
  at := CLOCK;
  WITH due AS (
    SELECT l.* FROM NS.leases l WHERE l.state = 0 AND l.expires_at <= expire.at
    ORDER BY l.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  )
  SELECT array_agg(ROW(due.*)::NS.leases ORDER BY due.expires_at, due.id) INTO over FROM due;
  IF over IS NOT NULL THEN
    UPDATE NS.leases l
    SET state = 3, settled_at = expire.at,
        used_usd = CASE WHEN p_charge THEN l.usd ELSE 0 END,
        used_tokens = CASE WHEN p_charge THEN l.tokens ELSE 0 END,
        used_calls = CASE WHEN p_charge THEN l.calls ELSE 0 END,
        over_usd = 0, over_tokens = 0, over_calls = 0
    WHERE l.id = ANY (ARRAY(SELECT o.id FROM unnest(over) AS o));
    PERFORM NS.book(ARRAY[d.key],
        CASE WHEN p_charge THEN d.sums ELSE ARRAY[0, 0, 0] END, d.sums, ARRAY[0, 0, 0], d.open, at)
    FROM (
      SELECT k AS key, count(*) AS open,
             ARRAY[sum(l.usd), sum(l.tokens), sum(l.calls)]::bigint[] AS sums
      FROM unnest(over) AS l, unnest(l.keys) AS k GROUP BY k ORDER BY k COLLATE "C"
    ) AS d;
  END IF;
  RETURN QUERY
    SELECT expire.at, coalesce(l.long_id, l.id), ARRAY[l.usd, l.tokens, l.calls], l.accounts,
           l.expires_at
    FROM (SELECT 1) AS one LEFT JOIN unnest(over) AS l ON true;
END
$f$;
"""

_NOTES: Final = """
CREATE FUNCTION NS.swap_note(
  p_key text, p_expected bigint, p_text text, p_keep float8, p_now float8, p_wait text,
  OUT at float8, OUT version bigint, OUT body text
) LANGUAGE plpgsql AS $f$
BEGIN
  SETTINGS
  at := CLOCK;
  IF p_expected = 0 THEN
    INSERT INTO NS.notes VALUES (p_key, 1, p_text, at + p_keep) ON CONFLICT DO NOTHING;
  ELSE
    UPDATE NS.notes n SET version = p_expected + 1, text = p_text, forget_at = at + p_keep
    WHERE n.key = p_key AND n.version = p_expected;
  END IF;
  SELECT n.version, n.text INTO version, body FROM NS.notes n WHERE n.key = p_key;
END
$f$;
"""

# The accounts come in the order of their keys, which is that of the locks.
REFILL: Final = """
CREATE FUNCTION NS.refill(
  p_id text, p_long_id text, p_call text, p_keys text[], p_parts bigint[], p_keeps float8[],
  p_now float8, p_hurry boolean, p_wait text, OUT outcome text, OUT at float8
) LANGUAGE plpgsql AS $f$
DECLARE
  used bigint;
  over bigint;
  stash text;
  aside bigint;
  given bigint;
  drained bigint;
  kept bigint;
BEGIN
  SETTINGS
  at := CLOCK;
  IF NOT p_hurry AND DUE THEN
    outcome := 'due';
    RETURN;
  END IF;
  INSERT INTO NS.leases (id, long_id, call, state, usd, tokens, calls, keys, accounts, expires_at,
    settled_at, used_usd, used_tokens, used_calls, over_usd, over_tokens, over_calls, actual)
  VALUES (p_id, p_long_id, p_call, 1, 0, 0, 0, '{}', '[]', at, at, 0, 0, 0, 0, 0, 0,
    ARRAY[0, 0, 0])
  ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND THEN
    SELECT CASE l.state WHEN 0 THEN 'open' ELSE 'known' END INTO outcome
    FROM NS.leases l WHERE l.id = p_id;
    RETURN;
  END IF;
  FOR i IN 1..cardinality(p_keys) LOOP
    SELECT c.used_calls, c.over_calls INTO used, over
    FROM NS.counters c WHERE c.key = p_keys[i] FOR UPDATE;
    used := coalesce(used, 0);
    INSERT INTO NS.notes VALUES (p_keys[i], 0, '', NULL) ON CONFLICT DO NOTHING;
    SELECT n.text INTO stash FROM NS.notes n WHERE n.key = p_keys[i] FOR UPDATE;
    aside := 0;
    given := 0;
    IF stash ~ '^[0-9]{1,15} [0-9]{1,15}$' THEN
      aside := split_part(stash, ' ', 1)::bigint;
      given := split_part(stash, ' ', 2)::bigint;
    END IF;
    drained := greatest(0, used * CALL - aside - p_parts[i]);
    kept := ceil(drained::numeric / CALL)::bigint;
    UPDATE NS.notes n
    SET version = n.version + 1, text = (kept * CALL - drained) || ' ' || (given + used - kept),
        forget_at = at + p_keeps[i]
    WHERE n.key = p_keys[i];
    IF kept < used THEN
      UPDATE NS.counters c
      SET used_calls = kept, over_calls = least(over, kept), written_at = at
      WHERE c.key = p_keys[i];
      -- In the journal as in the counters.
      PERFORM NS.carry(ARRAY[
        ROW(p_keys[i], 0, 0, kept - used, 0, 0, least(over, kept) - over)
      ]::NS.openings[]);
    END IF;
  END LOOP;
  outcome := 'refilled';
END
$f$;
""".replace("CALL", str(MICRO_CALLS))

FUNCTIONS: Final = _RESERVE + _SETTLE + _NOTES + REFILL
