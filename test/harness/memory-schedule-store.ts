/** Schedules in memory beside the jobs of a `MemoryJobStore`, for tests of what runs them. */
import { AppError, type JobId, type Timestamp } from '../../src/base/index.ts';
import {
  type JobRecord,
  type ListedSchedule,
  type ScheduleChange,
  type ScheduledRun,
  type ScheduleId,
  type ScheduleRecord,
  type ScheduleStore,
  type UnsettledRun,
  errorOf,
  isTerminal,
} from '../../src/catalog/index.ts';

export class MemoryScheduleStore implements ScheduleStore {
  readonly schedules = new Map<ScheduleId, ScheduleRecord>();
  readonly #settled = new Set<JobId>();
  readonly #jobs: ReadonlyMap<JobId, JobRecord>;
  /** Reads and writes fail as long as it is true. */
  isBroken = false;
  /** How often it was asked for anything. */
  queries = 0;

  constructor(jobs: ReadonlyMap<JobId, JobRecord>) {
    this.#jobs = jobs;
  }

  async list(options: { ids?: readonly ScheduleId[] }): Promise<readonly ListedSchedule[]> {
    this.#ask();
    return [...this.schedules.values()]
      .filter(({ id }) => options.ids?.includes(id) ?? true)
      .map((schedule) => this.#listed(schedule));
  }

  async due(options: { now: Timestamp; countMax: number }): Promise<readonly ListedSchedule[]> {
    this.#ask();
    return [...this.schedules.values()]
      .filter(({ nextRun }) => nextRun !== null && nextRun <= options.now)
      .toSorted((a, b) => Number((a.nextRun ?? 0n) - (b.nextRun ?? 0n)))
      .slice(0, options.countMax)
      .map((schedule) => this.#listed(schedule));
  }

  async nextDue(): Promise<Timestamp | null> {
    this.#ask();
    const times = [...this.schedules.values()].map(({ nextRun }) => nextRun).filter((time) => time !== null);
    return times.reduce<Timestamp | null>(
      (least, time) => (least === null || time < least ? time : least),
      null,
    );
  }

  async change(change: ScheduleChange): Promise<void> {
    this.#ask();
    for (const schedule of [...(change.insert ?? []), ...(change.update ?? [])]) {
      this.schedules.set(schedule.id, schedule);
    }
    for (const id of change.delete ?? []) this.schedules.delete(id);
    if (change.settle !== undefined) this.#settled.add(change.settle);
  }

  async findRun(run: ScheduledRun): Promise<JobId | undefined> {
    this.#ask();
    return [...this.#jobs.values()].find(
      ({ schedule }) => schedule?.scheduleId === run.scheduleId && schedule.scheduledFor === run.scheduledFor,
    )?.id;
  }

  async unsettled(options: { countMax: number }): Promise<readonly UnsettledRun[]> {
    this.#ask();
    return [...this.#jobs.values()]
      .filter((job) => isTerminal(job.state) && !this.#settled.has(job.id))
      .flatMap((job) =>
        job.schedule === undefined || job.finished === null
          ? []
          : [
              {
                ...job.schedule,
                jobId: job.id,
                status: job.state.kind,
                error: errorOf(job.state) ?? null,
                finished: job.finished,
              },
            ],
      )
      .slice(0, options.countMax);
  }

  async newestId(): Promise<bigint> {
    return [...this.schedules.keys()].reduce<bigint>((newest, id) => (id > newest ? id : newest), 0n);
  }

  #listed(schedule: ScheduleRecord): ListedSchedule {
    const running = [...this.#jobs.values()].filter(
      (job) => job.schedule?.scheduleId === schedule.id && !isTerminal(job.state),
    );
    return { schedule, jobsRunning: running.length };
  }

  #ask(): void {
    this.queries += 1;
    if (this.isBroken) throw new AppError('connection_failure', 'the store is away');
  }
}
