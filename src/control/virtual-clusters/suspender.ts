/**
 * Stops the instances of virtual clusters that nobody needs, and starts them again for whoever comes: docs/decisions/0035-suspended.md.
 * That one is suspended is recorded after its instance was stopped, and that it is not while it is started: a daemon that dies in between
 * leaves one that serves, or one that is started by the next daemon, or one that sleeps.
 */
import {
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type Timestamp,
  type VirtualClusterId,
  isAppError,
} from '../../base/index.ts';
import {
  type Suspension,
  type VirtualClusterRecord,
  postgresScheduleStore,
  serviceModeOf,
} from '../../catalog/index.ts';
import type { Instance } from '../../instance/index.ts';
import { faultPoint } from '../../timeline/index.ts';
import { type Core, loggerOf } from '../core.ts';
import { storeOf } from '../jobs/job-visibility.ts';
import type { MetricFamily } from '../status.ts';
import { hasBase } from '../timeline/timeline-point.ts';

/** Between two looks at who is idle, and at whom a schedule needs. */
const ROUND_MS = 1000;
/** Not worth stopping for less. */
const SLEEP_US_MIN = 5_000_000n;

/**
 * Who uses an instance: sessions of others than the node (which keeps some open), the node's captures, whoever follows its log other than
 * the vault, and what runs without a session. Subscriptions wait for what others send. Text of a count.
 */
const USERS = `select (
    (select count(*) from pg_catalog.pg_stat_activity
      where pid <> pg_catalog.pg_backend_pid()
        and (backend_type in ('client backend', 'walsender', 'autovacuum worker', 'parallel worker') or backend_type like 'logical replication %worker')
        and (usename is distinct from 'atoll' or application_name not in ('atoll', 'atoll vault')))
    + (select count(*) from pg_catalog.pg_subscription where subenabled)
  )::text as users`;

/** How often and how quickly one was woken since the daemon started. */
interface Wakes {
  count: number;
  lastMs: number;
}

type Asleep = NonNullable<Suspension['asleep']>;

/** When it was suspended and until when; undefined while it is not. */
export function asleepOf({ state, suspension }: VirtualClusterRecord): Asleep | undefined {
  return serviceModeOf(state) === 'shared' ? (suspension?.asleep ?? undefined) : undefined;
}

export class Suspender {
  readonly #coreOf: () => Core;
  /** Monotonic milliseconds since when nobody was seen. */
  readonly #idleSince = new Map<VirtualClusterId, number>();
  readonly #wakes = new Map<VirtualClusterId, Wakes>();

  constructor(coreOf: () => Core) {
    this.#coreOf = coreOf;
  }

  /** Somebody is on his way in. */
  noteArrival(id: VirtualClusterId): void {
    this.#idleSince.delete(id);
  }

  /** Starts the instance of one that sleeps, or is just falling asleep. Harmless when awake. @throws AppError when it does not start */
  async wake(id: VirtualClusterId): Promise<void> {
    this.noteArrival(id);
    const core = this.#coreOf();
    const isConcerned = () => (core.catalog.get(id)?.suspension ?? null) !== null;
    if (isConcerned() && !core.gates.isOpen(id)) await core.locks.run(id, () => this.wakeLocked(id));
  }

  /** As `wake`, for who holds the lock of the virtual cluster. */
  async wakeLocked(id: VirtualClusterId): Promise<void> {
    const core = this.#coreOf();
    const record = core.catalog.get(id);
    if (record?.suspension == null || asleepOf(record) === undefined) return;
    const { clock } = core.options;
    const beginMs = clock.monotonicMs();
    // Forgotten beside the start: it takes no time of the client's, and should the start fail it is tried again like that of any other.
    const forgotten = this.#record(record, null);
    const opened = core.services.open(record, { signal: core.signal });
    const [result] = await Promise.allSettled([opened, forgotten]);
    faultPoint('wake.started');
    await forgotten;
    if (result.status === 'rejected') {
      loggerOf(core, record).error(
        'the suspended virtual cluster could not be woken, will try again',
        result.reason,
      );
      throw result.reason;
    }
    const tookMs = clock.monotonicMs() - beginMs;
    this.#wakes.set(id, { count: (this.#wakes.get(id)?.count ?? 0) + 1, lastMs: tookMs });
    loggerOf(core, record).info(`woken in ${Math.round(tookMs)} ms`);
  }

  /**
   * What a starting daemon does with one that is recorded as suspended: true when it sleeps on. One that runs was being put to sleep, or woken,
   * when the daemon before died; it serves.
   */
  async sleepsOn(record: VirtualClusterRecord): Promise<boolean> {
    if (asleepOf(record) === undefined) return false;
    if (this.#coreOf().services.instanceOf(record).state.kind === 'stopped') return true;
    await this.#record(record, null);
    return false;
  }

  /** Runs until the daemon stops. */
  async run(): Promise<void> {
    const core = this.#coreOf();
    const { clock } = core.options;
    while (!core.signal.aborted) {
      await clock.sleep(ROUND_MS, { signal: core.signal }).catch(() => undefined); // The loop sees why.
      for (const record of core.catalog.list()) {
        if (core.signal.aborted) return;
        if (record.suspension === null) continue;
        await this.#look(record, record.suspension).catch((error: unknown) => {
          const isExpected = isAppError(error);
          if (core.signal.aborted) return;
          loggerOf(core, record).log(
            isExpected ? 'warning' : 'error',
            'suspension failed, will try again',
            error,
          );
        });
      }
    }
  }

  families(): readonly MetricFamily[] {
    const core = this.#coreOf();
    const concerned = core.catalog.list().filter(({ suspension }) => suspension !== null);
    const family = (
      name: string,
      type: MetricFamily['type'],
      help: string,
      value: (record: VirtualClusterRecord) => number,
    ): MetricFamily => ({
      name: `virtual_cluster_${name}`,
      help,
      type,
      samples: concerned.map((record) => ({ labels: { tenant: record.name }, value: value(record) })),
    });
    const wakesOf = ({ id }: VirtualClusterRecord) => this.#wakes.get(id);
    return [
      family('suspended', 'gauge', '1 while its instance is stopped because nobody needs it', (record) =>
        Number(asleepOf(record) !== undefined),
      ),
      family(
        'wakes_count',
        'counter',
        'Times it was woken since the daemon started',
        (record) => wakesOf(record)?.count ?? 0,
      ),
      family(
        'wake_seconds',
        'gauge',
        'How long it took to wake it the last time',
        (record) => (wakesOf(record)?.lastMs ?? 0) / 1000,
      ),
    ];
  }

  async #look(record: VirtualClusterRecord, { afterUs }: Suspension): Promise<void> {
    const core = this.#coreOf();
    const { id } = record;
    const { clock } = core.options;
    const wakeAt = asleepOf(record)?.wakeAt ?? null;
    if (wakeAt !== null && wakeAt <= clock.now()) return this.wake(id);
    if (!core.gates.isOpen(id)) return;
    const idleSince = this.#idleSince.get(id) ?? clock.monotonicMs();
    this.#idleSince.set(id, idleSince);
    if (!(await this.#isIdle(record))) return this.noteArrival(id);
    // Who came meanwhile has reset it.
    if (this.#idleSince.get(id) !== idleSince || clock.monotonicMs() - idleSince < Number(afterUs / 1000n))
      return;
    await core.locks.run(id, () => this.#suspend(id));
  }

  async #suspend(id: VirtualClusterId): Promise<void> {
    const core = this.#coreOf();
    const record = core.catalog.get(id);
    if (record?.suspension == null || serviceModeOf(record.state) !== 'shared' || !core.gates.isOpen(id))
      return;
    const instance = core.services.instanceOf(record);
    // Whoever comes from now on waits at the gate, and wakes it again.
    core.gates.close(id);
    let wakeAt: Timestamp | null;
    try {
      wakeAt = await nextDue(instance, core);
      const isSoon = wakeAt !== null && wakeAt - core.options.clock.now() < SLEEP_US_MIN;
      if (isSoon || !this.#idleSince.has(id) || !(await this.#isIdle(record))) return core.gates.open(id);
    } catch (error) {
      core.gates.open(id);
      throw error;
    }
    await core.services.suspend(record, { signal: core.signal });
    faultPoint('suspend.stopped');
    await this.#record(record, { since: core.options.clock.now(), wakeAt });
    faultPoint('suspend.recorded');
    this.#idleSince.delete(id);
    const until = wakeAt === null ? '' : '; a schedule will wake it';
    loggerOf(core, record).info(
      `suspended: nobody has needed it for ${record.suspension.afterUs / 1_000_000n} s${until}`,
    );
  }

  /** Nobody is connected, nothing runs, and what it holds can be had from its timeline. */
  async #isIdle(record: VirtualClusterRecord): Promise<boolean> {
    const core = this.#coreOf();
    const { id } = record;
    const { signal } = core;
    const instance = core.services.instanceOf(record);
    if (instance.state.kind !== 'running' || core.runner.active(id).length > 0) return false;
    if (!(await this.#isKept(record))) return false;
    const targeting = await storeOf(core, SYSTEM_VIRTUAL_CLUSTER_ID).readUnfinished({ signal });
    if (targeting.some(({ targetVirtualClusterId }) => targetVirtualClusterId === id)) return false;
    const [row] = await instance.withSystemClient((client) => client.query(USERS), { signal });
    return row?.['users'] === '0';
  }

  /** A server that stops in order waits for a vault that receives; and what has no base yet could not be restored while it sleeps. */
  async #isKept(record: VirtualClusterRecord): Promise<boolean> {
    const core = this.#coreOf();
    const { timeline } = core.options;
    if (timeline === undefined || !core.settings.isOn(record.id, 'timeline.enabled')) return true;
    const state = timeline.vault.status(record.id)?.state.kind;
    return (state === 'receiving' || state === 'gap') && (await hasBase(core, record, core));
  }

  async #record(record: VirtualClusterRecord, asleep: Suspension['asleep']): Promise<void> {
    const { catalog, signal } = this.#coreOf();
    const { id, suspension } = record;
    if (suspension === null) return;
    await catalog.setSuspension({ id, suspension: { ...suspension, asleep }, signal });
  }
}

async function nextDue(instance: Instance, wait: { signal: AbortSignal }): Promise<Timestamp | null> {
  return postgresScheduleStore(instance).nextDue(wait);
}
