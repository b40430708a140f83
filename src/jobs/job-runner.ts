/**
 * Runs the jobs of every virtual cluster that serves. Each job is a durable record first and a running task second: after a restart of the
 * daemon the record is taken up where it stands.
 */
import type { Clock, JobId, Logger, VirtualClusterId } from '../base/index.ts';
import { AppError, CancelledError, InputError, Mutex, Semaphore } from '../base/index.ts';
import {
  type JobIdSource,
  type JobRecord,
  type JobSpec,
  isTerminal,
  modifiedNext,
} from '../catalog/index.ts';
import { faultPoint } from '../timeline/index.ts';
import { countTransition, type JobCounts, noJobCounts } from './job-counts.ts';
import { JobDriver } from './job-driver.ts';
import { type JobEvent, nextJobState } from './job-state.ts';
import type { JobDomain, JobType } from './job-type.ts';

/** Jobs that work at the same time on one node; further ones wait for their turn. */
export const JOBS_WORKING_MAX = 8;

export type JobControl = 'pause' | 'resume' | 'cancel';

export interface JobReference {
  /** The virtual cluster that keeps the record. */
  readonly virtualClusterId: VirtualClusterId;
  readonly jobId: JobId;
}

/** What waits for news of jobs. */
interface Listener {
  readonly onChange: (record: JobRecord) => void;
  readonly onStall: (jobId: JobId, reason: string | null) => void;
}

interface Attached {
  readonly domain: JobDomain;
  readonly detached: AbortController;
  readonly drivers: Map<JobId, { readonly driver: JobDriver; readonly done: Promise<void> }>;
  /** Jobs that are paused, with their types. */
  readonly paused: Map<JobId, string>;
  readonly counts: Map<string, JobCounts>;
  /** Orders what users ask with the coming and going of drivers. */
  readonly control: Mutex;
  readonly listeners: Set<Listener>;
}

export class JobRunner {
  readonly #types: ReadonlyMap<string, JobType>;
  readonly #ids: JobIdSource;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #nodeId: number;
  readonly #places = new Semaphore(JOBS_WORKING_MAX);
  readonly #attached = new Map<VirtualClusterId, Attached>();
  readonly #onChange: (virtualClusterId: VirtualClusterId, record: JobRecord) => void;

  constructor(options: {
    types: readonly JobType[];
    ids: JobIdSource;
    clock: Clock;
    logger: Logger;
    nodeId: number;
    /** Told of every change of a record when it is durable. */
    onChange?: (virtualClusterId: VirtualClusterId, record: JobRecord) => void;
  }) {
    this.#onChange = options.onChange ?? (() => undefined);
    this.#types = new Map(options.types.map((type) => [type.name, type]));
    this.#ids = options.ids;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#nodeId = options.nodeId;
  }

  /**
   * Takes up the jobs of a virtual cluster that has begun to serve. Those of another incarnation are closed, never run.
   * Harmless when attached.
   */
  async attach(domain: JobDomain, wait: { signal: AbortSignal }): Promise<void> {
    if (this.#attached.has(domain.virtualClusterId)) return;
    const attached: Attached = {
      domain,
      detached: new AbortController(),
      drivers: new Map(),
      paused: new Map(),
      counts: new Map(),
      control: new Mutex(),
      listeners: new Set(),
    };
    this.#ids.noteUsed(await domain.store.newestId(wait));
    const unfinished = await domain.store.readUnfinished(wait);
    const isOurs = (record: JobRecord) => record.incarnation === domain.incarnation;
    for (const record of unfinished) {
      if (!isOurs(record)) await this.#close(attached, record, wait);
    }
    this.#attached.set(domain.virtualClusterId, attached);
    for (const record of unfinished) {
      if (isOurs(record) && record.state.kind === 'paused') attached.paused.set(record.id, record.type);
      if (isOurs(record) && record.state.kind !== 'paused') this.#drive(attached, record);
    }
  }

  /** Ends the work of its jobs, whose records stay as they are, and waits for that. Harmless when not attached. */
  async detach(virtualClusterId: VirtualClusterId): Promise<void> {
    const attached = this.#attached.get(virtualClusterId);
    if (attached === undefined) return;
    this.#attached.delete(virtualClusterId);
    attached.detached.abort();
    await Promise.all([...attached.drivers.values()].map(({ done }) => done));
  }

  async shutdown(): Promise<void> {
    await Promise.all([...this.#attached.keys()].map((id) => this.detach(id)));
  }

  /** Records a new job and begins it. The record is durable when this returns. */
  async create(
    virtualClusterId: VirtualClusterId,
    spec: JobSpec,
    wait: { signal: AbortSignal },
  ): Promise<JobRecord> {
    const attached = this.#require(virtualClusterId);
    const now = this.#clock.now();
    const record: JobRecord = {
      ...spec,
      id: this.#ids.next(),
      state: { kind: 'pending' },
      runningStatus: null,
      created: now,
      started: null,
      finished: null,
      modified: now,
      fractionCompleted: 0,
      coordinatorId: this.#nodeId,
      progress: {},
      attempt: 0,
      incarnation: attached.domain.incarnation,
    };
    await attached.control.run(async () => {
      await attached.domain.store.insert(record, wait);
      faultPoint('job.pending');
      this.#drive(attached, record);
    });
    return record;
  }

  /** Pauses, resumes or cancels; what was asked is durable when this returns. @throws InputError `object_state` */
  async control(
    reference: JobReference,
    action: JobControl,
    wait: { signal: AbortSignal; reason?: string },
  ): Promise<JobRecord> {
    const event = eventOf(action, wait.reason);
    const attached = this.#require(reference.virtualClusterId);
    return attached.control.run(async () => {
      const running = await this.#unlessResting(attached, reference.jobId);
      if (running !== undefined && event.kind !== 'resume_asked') return running.ask(event, wait);
      const record = running?.record ?? (await attached.domain.store.read(reference.jobId, wait));
      if (record === undefined) throw jobNotFound(reference.jobId);
      const next = await this.#write(attached, record, event, wait);
      if (next.state.kind !== record.state.kind) this.#drive(attached, next);
      return next;
    });
  }

  /** Gives a job to somebody else, whatever its state; durable when this returns. @throws InputError `object_not_found` */
  async changeOwner(reference: JobReference, user: string, wait: { signal: AbortSignal }): Promise<void> {
    const attached = this.#require(reference.virtualClusterId);
    await attached.control.run(async () => {
      const running = await this.#unlessResting(attached, reference.jobId);
      if (running !== undefined) return running.changeOwner(user, wait);
      const record = await attached.domain.store.read(reference.jobId, wait);
      if (record === undefined) throw jobNotFound(reference.jobId);
      const modified = modifiedNext(record, this.#clock.now());
      await attached.domain.store.update({ ...record, user, modified }, wait);
    });
  }

  /**
   * The record as soon as it satisfies `until`. Until then `onChange` gets it with every change, and `onStall` why it cannot be written,
   * or null when it can be again: meanwhile the job waits.
   * @throws AppError `object_not_found`; `cannot_connect_now` when the virtual cluster stops serving; CancelledError
   */
  async waitFor(
    reference: JobReference,
    options: {
      until: (record: JobRecord) => boolean;
      onChange?: (record: JobRecord) => void;
      onStall?: (reason: string | null) => void;
      signal: AbortSignal;
    },
  ): Promise<JobRecord> {
    const attached = this.#require(reference.virtualClusterId);
    const found = Promise.withResolvers<JobRecord>();
    const onChange = (record: JobRecord) => {
      if (record.id !== reference.jobId) return;
      if (options.until(record)) found.resolve(record);
      else options.onChange?.(record);
    };
    const onStall = (jobId: JobId, reason: string | null) => {
      if (jobId === reference.jobId) options.onStall?.(reason);
    };
    const listener: Listener = { onChange, onStall };
    const onCancel = () => found.reject(new CancelledError());
    const onDetach = () => found.reject(notServing(attached.domain.virtualClusterName));
    attached.listeners.add(listener);
    options.signal.addEventListener('abort', onCancel, { once: true });
    attached.detached.signal.addEventListener('abort', onDetach, { once: true });
    try {
      if (options.signal.aborted) throw new CancelledError();
      const driver = attached.drivers.get(reference.jobId)?.driver;
      const record = driver?.record ?? (await attached.domain.store.read(reference.jobId, options));
      if (record === undefined) throw jobNotFound(reference.jobId);
      onChange(record);
      if (driver !== undefined && driver.stall !== null) onStall(reference.jobId, driver.stall);
      return await found.promise;
    } finally {
      attached.listeners.delete(listener);
      options.signal.removeEventListener('abort', onCancel);
      attached.detached.signal.removeEventListener('abort', onDetach);
      found.promise.catch(() => undefined);
    }
  }

  /** Jobs that are being driven now, with what is known of them in memory. */
  active(virtualClusterId: VirtualClusterId): readonly JobRecord[] {
    const attached = this.#attached.get(virtualClusterId);
    return attached === undefined ? [] : [...attached.drivers.values()].map(({ driver }) => driver.record);
  }

  /** How jobs of this type fared since the virtual cluster began to serve. */
  counts(virtualClusterId: VirtualClusterId, type: string): Readonly<JobCounts> {
    const attached = this.#attached.get(virtualClusterId);
    return attached === undefined ? noJobCounts() : this.#countsOf(attached, type);
  }

  pausedCount(virtualClusterId: VirtualClusterId, type: string): number {
    const paused = this.#attached.get(virtualClusterId)?.paused.values() ?? [];
    return [...paused].filter((each) => each === type).length;
  }

  #countsOf(attached: Attached, type: string): JobCounts {
    const counts = attached.counts.get(type) ?? noJobCounts();
    attached.counts.set(type, counts);
    return counts;
  }

  /** The driver of a job that is not at rest; one that is just coming to rest is waited for. */
  async #unlessResting(attached: Attached, jobId: JobId): Promise<JobDriver | undefined> {
    const entry = attached.drivers.get(jobId);
    if (entry === undefined) return undefined;
    const { state } = entry.driver.record;
    if (state.kind !== 'paused' && !isTerminal(state)) return entry.driver;
    await entry.done;
    return undefined;
  }

  #drive(attached: Attached, record: JobRecord): void {
    const type = this.#types.get(record.type);
    const logger = this.#logger.for({
      virtualClusterId: attached.domain.virtualClusterId,
      virtualClusterName: attached.domain.virtualClusterName,
    });
    if (type === undefined) {
      logger.warning(`job ${record.id} is of type ${record.type}, which this release does not run`);
      return;
    }
    const driver = new JobDriver({
      record,
      type,
      domain: attached.domain,
      clock: this.#clock,
      logger,
      places: this.#places,
      detached: attached.detached.signal,
      onChange: (changed, before) => this.#announce(attached, changed, before),
      onStall: (reason) => {
        for (const listener of attached.listeners) listener.onStall(record.id, reason);
      },
    });
    const done = driver
      .drive()
      .catch((error: unknown) => logger.error(`job ${record.id} stopped running`, error))
      .finally(() => {
        attached.drivers.delete(record.id);
        logger.info(`${record.type} job ${record.id}: ${driver.record.state.kind}`);
      });
    attached.drivers.set(record.id, { driver, done });
  }

  async #close(attached: Attached, record: JobRecord, wait: { signal: AbortSignal }): Promise<void> {
    const error =
      'the job was not finished when the data of this virtual cluster was replaced; it does not run here';
    await this.#write(attached, record, { kind: 'closed', error }, wait);
  }

  async #write(
    attached: Attached,
    record: JobRecord,
    event: JobEvent,
    wait: { signal: AbortSignal },
  ): Promise<JobRecord> {
    const state = nextJobState(record.state, event);
    const modified = modifiedNext(record, this.#clock.now());
    const next = { ...record, state, modified, finished: isTerminal(state) ? modified : null };
    await attached.domain.store.update(next, wait);
    this.#announce(attached, next, record);
    return next;
  }

  #announce(attached: Attached, record: JobRecord, before: JobRecord): void {
    countTransition(this.#countsOf(attached, record.type), before.state, record.state);
    if (record.state.kind === 'paused') attached.paused.set(record.id, record.type);
    else attached.paused.delete(record.id);
    for (const listener of attached.listeners) listener.onChange(record);
    this.#onChange(attached.domain.virtualClusterId, record);
  }

  #require(virtualClusterId: VirtualClusterId): Attached {
    const attached = this.#attached.get(virtualClusterId);
    if (attached === undefined) throw notServing(`${virtualClusterId}`);
    return attached;
  }
}

function eventOf(
  action: JobControl,
  reason: string | undefined,
): JobEvent & { kind: 'pause_asked' | 'resume_asked' | 'cancel_asked' } {
  return action === 'pause' ? { kind: 'pause_asked', reason } : { kind: `${action}_asked` };
}

export function jobNotFound(jobId: JobId): InputError {
  return new InputError('object_not_found', `job with ID ${jobId} does not exist`);
}

function notServing(name: string): AppError {
  return new AppError('cannot_connect_now', `virtual cluster "${name}" does not run jobs now`, {
    hint: 'try again when its service has started',
  });
}
