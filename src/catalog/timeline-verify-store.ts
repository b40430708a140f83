/** How far the reading of what timelines store has come, and what of it is damaged, in the control plane's tables. */
import { formatTimestamp, type Timestamp, type VirtualClusterId } from '../base/index.ts';
import { microsecondsOf, storable, type SqlClient, textOf, timestampOf } from './database.ts';

/** An object of a timeline store that cannot be read as it was written. */
export interface DamageRecord {
  /** Path in the store's folder. */
  readonly object: string;
  readonly reason: string;
  /** Folders of the bases that need it. */
  readonly bases: readonly string[];
  /** What log a segment holds, its end in text; null for what belongs to bases. */
  readonly log: { readonly incarnation: string; readonly endLsn: string } | null;
}

/** Everything is read once in a round. */
export interface TimelineVerifyRecord {
  readonly virtualClusterId: VirtualClusterId;
  readonly roundStarted: Timestamp;
  readonly lastPass: Timestamp;
  /** The object that was read last; null before the first, and when the round is over. */
  readonly after: string | null;
  readonly isRoundOver: boolean;
  /** In this round, and of the whole store when it was looked at last. */
  readonly readBytes: number;
  readonly allBytes: number;
  readonly damage: readonly DamageRecord[];
}

export async function writeTimelineVerify(client: SqlClient, record: TimelineVerifyRecord): Promise<void> {
  await client.query(
    `insert into public.timeline_verify
      (virtual_cluster_id, round_started, last_pass, after, is_round_over, read_bytes, all_bytes, damage)
      select $1::int8, $2::timestamptz, $3::timestamptz, $4::text, $5::bool, $6::int8, $7::int8, $8::jsonb
        where exists (select from public.virtual_clusters where id = $1::int8)
      on conflict (virtual_cluster_id) do update set round_started = excluded.round_started, last_pass = excluded.last_pass,
        after = excluded.after, is_round_over = excluded.is_round_over, read_bytes = excluded.read_bytes,
        all_bytes = excluded.all_bytes, damage = excluded.damage`,
    [
      String(record.virtualClusterId),
      formatTimestamp(record.roundStarted),
      formatTimestamp(record.lastPass),
      record.after,
      String(record.isRoundOver),
      String(record.readBytes),
      String(record.allBytes),
      storable(JSON.stringify(record.damage)),
    ],
  );
}

/** Of all virtual clusters. */
export async function listTimelineVerify(client: SqlClient): Promise<readonly TimelineVerifyRecord[]> {
  const rows = await client.query(
    `select virtual_cluster_id, ${microsecondsOf('round_started')} as round_started, ${microsecondsOf('last_pass')} as last_pass,
        after, is_round_over, read_bytes, all_bytes, damage from public.timeline_verify order by virtual_cluster_id`,
  );
  return rows.map((row) => ({
    virtualClusterId: Number(textOf(row, 'virtual_cluster_id')) as VirtualClusterId,
    roundStarted: timestampOf(textOf(row, 'round_started')) as Timestamp, // Not null, as the next.
    lastPass: timestampOf(textOf(row, 'last_pass')) as Timestamp,
    after: row['after'] ?? null,
    isRoundOver: textOf(row, 'is_round_over') === 't',
    readBytes: Number(textOf(row, 'read_bytes')),
    allBytes: Number(textOf(row, 'all_bytes')),
    damage: JSON.parse(textOf(row, 'damage')) as readonly DamageRecord[], // Written above.
  }));
}
