"""What keeps the tables of `PostgresLedger` small, and what finds out whether they are right."""

from __future__ import annotations

from typing import Final

__all__ = ["UPKEEP"]

# Small steps, one process at a time, in a transaction of their own.
_CHORES: Final = """
CREATE FUNCTION NS.carry(p_rows NS.openings[]) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
  INSERT INTO NS.openings AS o
  SELECT r.* FROM unnest(p_rows) AS r ORDER BY r.key
  ON CONFLICT (key) DO UPDATE
  SET used_usd = o.used_usd + excluded.used_usd,
      used_tokens = o.used_tokens + excluded.used_tokens,
      used_calls = o.used_calls + excluded.used_calls,
      over_usd = o.over_usd + excluded.over_usd,
      over_tokens = o.over_tokens + excluded.over_tokens,
      over_calls = o.over_calls + excluded.over_calls;
  DELETE FROM NS.openings o
  WHERE o.key = ANY (ARRAY(SELECT r.key FROM unnest(p_rows) AS r))
    AND (o.used_usd, o.used_tokens, o.used_calls, o.over_usd, o.over_tokens, o.over_calls)
        = (0, 0, 0, 0, 0, 0);
END
$f$;

CREATE FUNCTION NS.chores(
  p_keep float8, p_limit integer, p_now float8, p_wait text, OUT at float8
)
LANGUAGE plpgsql AS $f$
DECLARE
  names text[];  -- by arrays: joined, the planner might read all of a table
  sums NS.openings[];
BEGIN
  SETTINGS
  at := CLOCK;
  IF NOT pg_try_advisory_xact_lock(hashtextextended('langchain-hybridflow chores NAMESPACE', 0))
  THEN
    RETURN;
  END IF;

  -- Settled leases, the oldest lines of the journal, become opening balances.
  SELECT array_agg(l.id) INTO names FROM (
    SELECT o.id FROM NS.leases o WHERE o.state > 0 AND o.settled_at <= chores.at - p_keep
    ORDER BY o.settled_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) AS l;
  WITH dropped AS (
    DELETE FROM NS.leases l WHERE l.id = ANY (names) RETURNING l.*
  )
  SELECT array_agg(ROW(d.key, d.uu, d.ut, d.uc, d.ou, d.ot, d.oc)::NS.openings) INTO sums
  FROM (
    SELECT k AS key, sum(used_usd) AS uu, sum(used_tokens) AS ut, sum(used_calls) AS uc,
           sum(over_usd) AS ou, sum(over_tokens) AS ot, sum(over_calls) AS oc
    FROM dropped, unnest(dropped.keys) AS k GROUP BY k
  ) AS d;
  IF sums IS NOT NULL THEN
    PERFORM NS.carry(sums);
  END IF;

  -- Counters that nobody has written to for as long as they are to be kept. Leases that are still
  -- remembered stay in the journal; the opening balance takes them back.
  SELECT array_agg(q.key) INTO names FROM (
    SELECT c.key FROM NS.counters c WHERE c.look_at <= chores.at
    ORDER BY c.look_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) AS q;
  UPDATE NS.counters c
  SET look_at = CASE WHEN c.leases > 0 THEN chores.at ELSE c.written_at END + c.keep_s
  WHERE c.key = ANY (names) AND (c.leases > 0 OR c.written_at + c.keep_s > chores.at);
  WITH forgotten AS (
    DELETE FROM NS.counters c
    WHERE c.key = ANY (names) AND c.leases = 0 AND c.written_at + c.keep_s <= chores.at
    RETURNING c.*
  )
  SELECT array_agg(ROW(f.key, -used_usd, -used_tokens, -used_calls, -over_usd, -over_tokens,
                       -over_calls)::NS.openings) INTO sums
  FROM forgotten f;
  IF sums IS NOT NULL THEN
    PERFORM NS.carry(sums);
  END IF;

  SELECT array_agg(f.key) INTO names FROM (
    SELECT n.key FROM NS.notes n WHERE n.forget_at <= chores.at
    ORDER BY n.forget_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) AS f;
  DELETE FROM NS.notes n WHERE n.key = ANY (names);
END
$f$;
"""

_RECONCILE: Final = """
CREATE FUNCTION NS.differences()
RETURNS TABLE (total bigint, key text, counted bigint[], journal bigint[])
LANGUAGE sql STABLE AS $f$
  WITH lines AS (
    SELECT o.key, used_usd, used_tokens, used_calls, 0 AS held_usd, 0 AS held_tokens,
           0 AS held_calls, over_usd, over_tokens, over_calls, 0 AS open
    FROM NS.openings o
    UNION ALL
    SELECT k, coalesce(used_usd, 0), coalesce(used_tokens, 0), coalesce(used_calls, 0),
           CASE state WHEN 0 THEN usd ELSE 0 END, CASE state WHEN 0 THEN tokens ELSE 0 END,
           CASE state WHEN 0 THEN calls ELSE 0 END, coalesce(over_usd, 0),
           coalesce(over_tokens, 0), coalesce(over_calls, 0), CASE state WHEN 0 THEN 1 ELSE 0 END
    FROM NS.leases l, unnest(l.keys) AS k
  ), sums AS (
    SELECT l.key, ARRAY[sum(used_usd), sum(used_tokens), sum(used_calls), sum(held_usd),
                        sum(held_tokens), sum(held_calls), sum(over_usd), sum(over_tokens),
                        sum(over_calls), sum(open)]::bigint[] AS journal
    FROM lines l GROUP BY l.key
  ), compared AS MATERIALIZED (
    SELECT coalesce(c.key, s.key) AS key,
           coalesce(c.counted, array_fill(0::bigint, ARRAY[10])) AS counted,
           coalesce(s.journal, array_fill(0::bigint, ARRAY[10])) AS journal
    FROM (
      SELECT k.key, ARRAY[used_usd, used_tokens, used_calls, held_usd, held_tokens, held_calls,
                          over_usd, over_tokens, over_calls, leases] AS counted
      FROM NS.counters k
    ) AS c FULL JOIN sums s ON s.key = c.key
  )
  SELECT (SELECT count(*) FROM compared), d.key, d.counted, d.journal
  FROM (SELECT 1) AS one LEFT JOIN compared d ON d.counted <> d.journal
$f$;

CREATE FUNCTION NS.reconcile(p_repair boolean, p_now float8)
RETURNS TABLE (total bigint, key text, counted bigint[], journal bigint[])
LANGUAGE plpgsql AS $f$
BEGIN
  IF p_repair THEN  -- nobody else writes meanwhile
    LOCK TABLE NS.counters, NS.leases, NS.openings IN SHARE ROW EXCLUSIVE MODE;
  END IF;
  RETURN QUERY SELECT d.* FROM NS.differences() AS d;
  IF p_repair THEN
    INSERT INTO NS.counters AS c (key, used_usd, used_tokens, used_calls, held_usd, held_tokens,
      held_calls, over_usd, over_tokens, over_calls, leases, written_at)
    SELECT d.key, d.journal[1], d.journal[2], d.journal[3], d.journal[4], d.journal[5],
           d.journal[6], d.journal[7], d.journal[8], d.journal[9], d.journal[10], CLOCK
    FROM NS.differences() AS d WHERE d.key IS NOT NULL
    ON CONFLICT ON CONSTRAINT counters_pkey DO UPDATE
    SET used_usd = excluded.used_usd, used_tokens = excluded.used_tokens,
        used_calls = excluded.used_calls, held_usd = excluded.held_usd,
        held_tokens = excluded.held_tokens, held_calls = excluded.held_calls,
        over_usd = excluded.over_usd, over_tokens = excluded.over_tokens,
        over_calls = excluded.over_calls, leases = excluded.leases;
  END IF;
END
$f$;
"""

_RESET: Final = """
-- What is booked under one key moves to another; the opening balances keep the journal true.
CREATE FUNCTION NS.reset(
  p_key text, p_archive text, p_force boolean, p_now float8, p_wait text,
  OUT at float8, OUT leases bigint, OUT numbers bigint[]
) LANGUAGE plpgsql AS $f$
BEGIN
  SETTINGS
  at := CLOCK;
  leases := 0;
  numbers := array_fill(0::bigint, ARRAY[6]);
  PERFORM 1 FROM NS.counters c WHERE c.key = ANY (ARRAY[p_key, p_archive])
  ORDER BY c.key FOR UPDATE;
  SELECT c.leases, ARRAY[used_usd, used_tokens, used_calls, over_usd, over_tokens, over_calls]
  INTO reset.leases, reset.numbers FROM NS.counters c WHERE c.key = p_key;
  IF NOT FOUND THEN
    leases := 0;
    numbers := array_fill(0::bigint, ARRAY[6]);
    RETURN;
  END IF;
  IF (leases > 0 AND NOT p_force) OR numbers = array_fill(0::bigint, ARRAY[6]) THEN
    RETURN;
  END IF;
  UPDATE NS.counters c
  SET used_usd = 0, used_tokens = 0, used_calls = 0, over_usd = 0, over_tokens = 0, over_calls = 0
  WHERE c.key = p_key;
  INSERT INTO NS.counters AS c (key, used_usd, used_tokens, used_calls, over_usd, over_tokens,
                                over_calls, written_at)
  VALUES (p_archive, numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], at)
  ON CONFLICT (key) DO UPDATE
  SET used_usd = c.used_usd + excluded.used_usd,
      used_tokens = c.used_tokens + excluded.used_tokens,
      used_calls = c.used_calls + excluded.used_calls,
      over_usd = c.over_usd + excluded.over_usd,
      over_tokens = c.over_tokens + excluded.over_tokens,
      over_calls = c.over_calls + excluded.over_calls;
  PERFORM NS.carry(ARRAY[
    ROW(p_key, -numbers[1], -numbers[2], -numbers[3], -numbers[4], -numbers[5], -numbers[6]),
    ROW(p_archive, numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6])
  ]::NS.openings[]);
END
$f$;
"""

UPKEEP: Final = _CHORES + _RECONCILE + _RESET
