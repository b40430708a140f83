/** Job records in memory, for tests of what runs them: it can refuse to write, and remembers what was written. */
import { AppError, type JobId } from '../../src/base/index.ts';
import { type JobRecord, type JobStore, isTerminal } from '../../src/catalog/index.ts';

export class MemoryJobStore implements JobStore {
  readonly records = new Map<JobId, JobRecord>();
  /** Every state that became durable, in order. */
  readonly history: JobRecord[] = [];
  /** Writes fail as long as it is true. */
  isBroken = false;
  /** How many writes have failed. */
  refused = 0;

  insert(job: JobRecord): Promise<void> {
    return this.#write(job);
  }

  update(job: JobRecord): Promise<void> {
    return this.#write(job);
  }

  read(id: JobId): Promise<JobRecord | undefined> {
    return Promise.resolve(this.records.get(id));
  }

  readUnfinished(): Promise<readonly JobRecord[]> {
    return Promise.resolve([...this.records.values()].filter((job) => !isTerminal(job.state)));
  }

  list(): Promise<readonly JobRecord[]> {
    return Promise.resolve([...this.records.values()].reverse());
  }

  newestId(): Promise<bigint> {
    return Promise.resolve([...this.records.keys()].reduce((newest, id) => (id > newest ? id : newest), 0n));
  }

  deleteFinished(): Promise<number> {
    return Promise.resolve(0);
  }

  async #write(job: JobRecord): Promise<void> {
    if (this.isBroken) {
      this.refused += 1;
      throw new AppError('connection_failure', 'the store is away');
    }
    this.records.set(job.id, job);
    this.history.push(job);
  }
}
