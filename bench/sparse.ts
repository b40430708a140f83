import { BackupRig } from '../test/harness/backup-rig.ts';
import { NEVER } from '../test/harness/instance-store.ts';
import { growSparsely } from '../test/harness/sparse.ts';
import { peakMemoryOfWorkers, timed } from './processes.ts';
import { type Figure, mebibytes, seconds } from './report.ts';

/** A terabyte of zeroes; reading them is most of the time that it takes. */
const GIBIBYTES = Number(process.env['ATOLL_BENCH_SPARSE_GIB'] ?? 1024);

/** Memory of a worker that captures a very large directory, full and on top of that. */
export async function benchSparse(): Promise<Figure[]> {
  const suite = `Memory of a worker, ${GIBIBYTES} GiB of data (sparse files)`;
  await using rig = await BackupRig.open();
  const figures: Figure[] = [];
  let newest: string | null = null;
  const measure = async (what: string, goal?: string) => {
    let ms = 0;
    const peak = await peakMemoryOfWorkers(process.pid, async () => {
      ms = await timed(async () => {
        newest = (await rig.captureBase(newest)).base.subdirectory;
      });
    });
    figures.push({
      suite,
      what,
      value: `${mebibytes(peak)} at most, in ${seconds(ms)}`,
      ...(goal === undefined ? {} : { goal }),
    });
  };
  await measure('the same directory before it grew');
  newest = null;
  await growSparsely(rig.source, { gibibytes: GIBIBYTES });
  await measure('full capture', '400 MiB and 300 bytes for each 512 KiB of data');
  await measure('incremental capture of no change', 'the same');
  await rig.source.stop({ mode: 'immediate', signal: NEVER });
  return figures;
}
