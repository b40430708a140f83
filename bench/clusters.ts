import { TestDaemon } from '../test/harness/daemon.ts';
import { peakMemoryBytes, processTree, proportionalMemoryBytes, timed } from './processes.ts';
import { type Figure, mebibytes, median, milliseconds, seconds } from './report.ts';

const SYSTEM = { cluster: 'system' };

async function createAndStart(daemon: TestDaemon, name: string): Promise<void> {
  await daemon.query(
    [`CREATE VIRTUAL CLUSTER ${name}`, `ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`],
    SYSTEM,
  );
  await daemon.query('SELECT 1', { cluster: name });
}

/** Creates virtual clusters a few at a time, as a script would. */
async function createMany(daemon: TestDaemon, names: readonly string[]): Promise<void> {
  const queue = [...names];
  const worker = async () => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift())
      await createAndStart(daemon, name);
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}

/** Starting, creating, and what an idle virtual cluster costs. */
export async function benchClusters(): Promise<Figure[]> {
  const suite = 'Virtual clusters';
  const figures: Figure[] = [];
  const begin = performance.now();
  await using daemon = await TestDaemon.start();
  await daemon.query('SELECT 1');
  figures.push({
    suite,
    what: 'empty store to first query (makes the template once)',
    value: seconds(performance.now() - begin),
  });

  await daemon.stop();
  const again = await timed(async () => {
    await daemon.startAgain();
    await daemon.query('SELECT 1');
  });
  figures.push({
    suite,
    what: 'start of a store with 1 virtual cluster to first query',
    value: milliseconds(again),
  });

  const creations: number[] = [];
  for (let n = 0; n < 9; n += 1) creations.push(await timed(() => createAndStart(daemon, `c${n}`)));
  figures.push({
    suite,
    what: 'CREATE + START SERVICE of a virtual cluster to its first query (median, slowest of 9)',
    value: `${milliseconds(median(creations))}, ${milliseconds(Math.max(...creations))}`,
    goal: '< 500 ms',
  });

  await createMany(
    daemon,
    Array.from({ length: 10 }, (_, n) => `d${n}`),
  );
  await daemon.stop();
  const twenty = await timed(async () => {
    await daemon.startAgain();
    await daemon.query('SELECT 1', { cluster: 'd9' });
  });
  figures.push({
    suite,
    what: 'start of a store with 20 virtual clusters to first query on the last',
    value: seconds(twenty),
  });

  const hundred = await timed(() =>
    createMany(
      daemon,
      Array.from({ length: 80 }, (_, n) => `e${n}`),
    ),
  );
  figures.push({
    suite,
    what: '100 virtual clusters created and serving (80 timed, scaled to 100)',
    value: seconds((hundred / 80) * 100),
    goal: '< 30 s',
  });

  await new Promise((resolve) => setTimeout(resolve, 15_000)); // Internal sessions close when idle for a while.
  const postmasters = [...(await daemon.postmasters()).values()];
  const trees = postmasters.map((pid) => proportionalMemoryBytes(processTree(pid)));
  figures.push({
    suite,
    what: `idle memory of a virtual cluster (proportional set size, median of ${trees.length})`,
    value: mebibytes(median(trees)),
    goal: '≤ 16 MiB',
  });
  figures.push({
    suite,
    what: 'daemon with 101 instances: highest resident memory',
    value: mebibytes(peakMemoryBytes(daemon.pid)),
    goal: '< 200 MiB',
  });
  return figures;
}
