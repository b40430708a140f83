import { type Lsn, parseLsn, type Timestamp } from '../base/index.ts';
import type { Instance } from '../instance/index.ts';

/** How far a follower has come. */
export interface FollowerSample {
  /** Log is on its way from the source. */
  readonly isReceiving: boolean;
  /** Durable here; null when none was received since the server's start. */
  readonly receivedLsn: Lsn | null;
  readonly replayedLsn: Lsn | null;
  /** Replay has nothing more to do: what may lie behind is the beginning of a record. */
  readonly isWaiting: boolean;
  /** Of the newest commit that was replayed since the server's start. */
  readonly time: Timestamp | null;
  /** Replay has come to where it shall stop, or cannot go on with the places that the server has. */
  readonly isPaused: boolean;
}

/** What the server of a follower says of itself. */
export async function sampleFollower(
  instance: Instance,
  options: { signal: AbortSignal },
): Promise<FollowerSample> {
  const [row] = await instance.withSystemClient(
    (client) =>
      client.query(
        `select pg_catalog.pg_last_wal_receive_lsn()::text as received, pg_catalog.pg_last_wal_replay_lsn()::text as replayed,
            (extract(epoch from pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::int8::text as us,
            exists (select from pg_catalog.pg_stat_activity where backend_type = 'walreceiver')::text as is_receiving,
            exists (select from pg_catalog.pg_stat_activity where backend_type = 'startup'
              and wait_event in ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval'))::text as is_waiting,
            (pg_catalog.pg_is_in_recovery() and pg_catalog.pg_get_wal_replay_pause_state() = 'paused')::text as is_paused`,
      ),
    options,
  );
  const [received, replayed, us] = [row?.['received'], row?.['replayed'], row?.['us']];
  return {
    isReceiving: row?.['is_receiving'] === 'true',
    receivedLsn: received == null ? null : parseLsn(received),
    replayedLsn: replayed == null ? null : parseLsn(replayed),
    time: us == null ? null : (BigInt(us) as Timestamp),
    isWaiting: row?.['is_waiting'] === 'true',
    isPaused: row?.['is_paused'] === 'true',
  };
}
